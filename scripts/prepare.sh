# Sourced by the starters (verify, quickstart) with the repository as working folder: gets what npm provides, and puts Node 24 first in PATH.
# The machine's own Node may be older; it only has to run npm.

if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  if ! command -v npm >/dev/null 2>&1; then
    echo "npm is missing: install Node.js 20 or later with npm (Debian: apt-get install nodejs npm) and run this again" >&2
    exit 1
  fi
  echo "installing npm packages (npm ci) ..."
  npm_log=$(mktemp)
  # Nothing we use needs its install script, and npm 11 does not run them unless allowed.
  if ! npm ci --ignore-scripts --no-audit --no-fund >"$npm_log" 2>&1; then
    cat "$npm_log" >&2
    rm -f "$npm_log"
    echo "npm ci failed (its words are above)" >&2
    exit 1
  fi
  rm -f "$npm_log"
  touch node_modules/.package-lock.json
fi

PATH="$PWD/node_modules/.bin:$PATH"
export PATH
