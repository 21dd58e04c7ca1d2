/** Completion scripts written from the program itself, so that no verb or option can be missing from them. */
import type { Command } from "commander";

/** What a word at the end of a command may be, beside subcommands and options. */
type Names = "vms" | "nodes" | "pools" | "settings" | "tokens" | "policies" | "zones" | "tasks" | "contexts" | "config" | "files" | "";

interface Spot {
  /** Words that lead here: `vm list`. */
  path: string[];
  subcommands: { name: string; about: string }[];
  options: { name: string; about: string; takesValue: boolean }[];
  names: Names;
}

const NAMES_OF_ARGUMENT: Record<string, Names> = { vm: "vms", node: "nodes", policy: "policies", zone: "zones", task: "tasks" };

function namesOf(command: Command, path: string[]): Names {
  const argument = command.registeredArguments[0]?.name();
  if (argument === undefined) return "";
  if (path[0] === "pool" && path[1] === "delete") return "pools";
  if (path[0] === "token" && argument === "id") return "tokens";
  if (path[0] === "settings") return "settings";
  if (path[0] === "config") return "config";
  if (path[0] === "context") return "contexts";
  return NAMES_OF_ARGUMENT[argument] ?? "";
}

function isHidden(command: Command): boolean {
  return (command as unknown as { _hidden?: boolean })._hidden === true;
}

/** Every command that people see, the program itself first. */
export function spotsOf(program: Command): Spot[] {
  const globals = program.options.filter((option) => option.long !== "--version");
  const visit = (command: Command, path: string[]): Spot[] => {
    const shown = command.commands.filter((child) => !isHidden(child));
    const own = command === program ? [] : command.options;
    const options = [...own, ...globals].filter((option) => !option.hidden);
    const spot: Spot = {
      path,
      subcommands: shown.map((child) => ({ name: child.name(), about: child.description() })),
      options: [
        ...options.map((option) => ({
          name: option.long ?? option.short ?? "",
          about: option.description,
          takesValue: option.required || option.optional,
        })),
        { name: "--help", about: "help", takesValue: false },
      ],
      names: namesOf(command, path),
    };
    return [spot, ...shown.flatMap((child) => [child.name(), ...child.aliases()].flatMap((name) => visit(child, [...path, name])))];
  };
  return visit(program, []);
}

/** Options whose value is a name or a file, wherever they are. */
const VALUES: Record<string, Names> = {
  "--node": "nodes",
  "--vm": "vms",
  "--file": "files",
  "--cluster": "files",
  "--request": "files",
  "--config": "files",
  "--path": "files",
  "--socket": "files",
  "--context": "contexts",
};

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

export function bashScript(program: Command): string {
  const spots = spotsOf(program);
  const withValue = [
    ...new Set(spots.flatMap((spot) => spot.options.filter((option) => option.takesValue).map((option) => option.name))),
  ].toSorted();
  const cases = spots
    .map((spot) => {
      const words = spot.subcommands.map(({ name }) => name).join(" ");
      const options = spot.options.map(({ name }) => name).join(" ");
      return `    ${quote(spot.path.join(" "))}) subcommands=${quote(words)} options=${quote(options)} names=${quote(spot.names)} ;;`;
    })
    .join("\n");
  return `# bash completion of roost. Load it with: source <(roost completion bash)
_roost_names() {
  COMPREPLY=($(compgen -W "$(roost __complete "$1" 2>/dev/null)" -- "$cur"))
}
_roost() {
  local cur prev path word skip subcommands options names i
  COMPREPLY=()
  cur="\${COMP_WORDS[COMP_CWORD]}"
  prev="\${COMP_WORDS[COMP_CWORD-1]}"
  path=""
  skip=""
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${COMP_WORDS[i]}"
    if [[ -n "$skip" ]]; then skip=""; continue; fi
    case "$word" in
      ${["-o", "-f", "-l", ...withValue].join("|")}) skip=1; continue ;;
      -*) continue ;;
    esac
    _roost_spot "\${path:+$path }$word" && path="\${path:+$path }$word"
  done
  case "$prev" in
    -o|--output) COMPREPLY=($(compgen -W "table wide json yaml" -- "$cur")); return ;;
${Object.entries(VALUES)
  .map(([option, names]) =>
    names === "files"
      ? `    ${option}${option === "--file" ? "|-f" : ""}) COMPREPLY=($(compgen -f -- "$cur")); return ;;`
      : `    ${option}) _roost_names ${names}; return ;;`,
  )
  .join("\n")}
  esac
  _roost_spot "$path"
  if [[ "$cur" == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$cur"))
  elif [[ -n "$subcommands" ]]; then
    COMPREPLY=($(compgen -W "$subcommands" -- "$cur"))
  elif [[ -n "$names" ]]; then
    _roost_names "$names"
  fi
}
_roost_spot() {
  case "$1" in
${cases}
    *) return 1 ;;
  esac
}
complete -F _roost roost
`;
}

/** zsh runs the bash function through its own compatibility layer: one list of words, one logic. */
export function zshScript(program: Command): string {
  return `#compdef roost
# zsh completion of roost. Load it with: source <(roost completion zsh)
autoload -U +X bashcompinit && bashcompinit
${bashScript(program)}`;
}

export function fishScript(program: Command): string {
  const lines = spotsOf(program).flatMap((spot) => {
    const here = spot.path.length === 0 ? "__fish_use_subcommand" : `__roost_at ${spot.path.join(" ")}`;
    const head = `complete -c roost -f -n ${quote(here)}`;
    return [
      ...spot.subcommands.map(({ name, about }) => `${head} -a ${name} -d ${quote(about)}`),
      ...spot.options.map(
        ({ name, about, takesValue }) => `${head} -l ${name.replace(/^--/, "")}${takesValue ? " -r" : ""} -d ${quote(about)}`,
      ),
      ...(spot.names === "" ? [] : [`${head} -a ${quote(`(roost __complete ${spot.names} 2>/dev/null)`)}`]),
    ];
  });
  return `# fish completion of roost. Load it with: roost completion fish | source
function __roost_at
  set -l words (commandline -opc | string match -v -- '-*')
  set -e words[1]
  set -l most (count $argv)
  test (count $words) -ge $most; and test "$words[1..$most]" = "$argv"
end
${lines.join("\n")}
`;
}

export const SHELLS = { bash: bashScript, zsh: zshScript, fish: fishScript } as const;
