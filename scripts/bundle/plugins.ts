/** What the bundle needs changed in its dependencies: files they look for next to themselves do not exist in a single binary. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "esbuild";
import protobuf from "protobufjs";

/** Replaces classic-level's search for a prebuilt addon with the embedded one. */
export function embeddedAddon(root: string, asset: string): Plugin {
  const loader = join(root, "scripts", "bundle", "addon.ts");
  return {
    name: "embedded-addon",
    setup(build) {
      build.onLoad({ filter: /[\\/]classic-level[\\/]binding\.js$/ }, () => ({
        contents: `module.exports = require(${JSON.stringify(loader)}).loadAddon(${JSON.stringify(asset)});`,
        loader: "js",
        resolveDir: root,
      }));
    },
  };
}

interface EmbeddedProto {
  /** The file of the library that loads a .proto from beside itself. */
  file: RegExp;
  proto: string;
  keepCase: boolean;
  /** The call to replace, and what its options are called in there. */
  call: RegExp;
  options: string;
}

const REFLECTION_CALL = /protoLoader\.loadSync\(protoPath, constants_1\.PROTO_LOADER_OPTS\)/;

const EMBEDDED_PROTOS: EmbeddedProto[] = [
  {
    file: /[\\/]@grpc[\\/]reflection[\\/].*[\\/]reflection-v1\.js$/,
    proto: "@grpc/reflection/build/proto/grpc/reflection/v1/reflection.proto",
    keepCase: false,
    call: REFLECTION_CALL,
    options: "protoLoader.fromJSON(JSON_HERE, constants_1.PROTO_LOADER_OPTS)",
  },
  {
    file: /[\\/]@grpc[\\/]reflection[\\/].*[\\/]reflection-v1alpha\.js$/,
    proto: "@grpc/reflection/build/proto/grpc/reflection/v1alpha/reflection.proto",
    keepCase: false,
    call: REFLECTION_CALL,
    options: "protoLoader.fromJSON(JSON_HERE, constants_1.PROTO_LOADER_OPTS)",
  },
  {
    file: /[\\/]grpc-health-check[\\/].*[\\/]health\.js$/,
    proto: "grpc-health-check/proto/health/v1/health.proto",
    keepCase: true,
    call: /\(0, proto_loader_1\.loadSync\)\('health\/v1\/health\.proto', \{/,
    options: "(0, proto_loader_1.fromJSON)(JSON_HERE, {",
  },
];

/** Replaces `loadSync(path)` by `fromJSON(content)` in the gRPC libraries we use; fails the build when a new version looks different. */
export function embeddedProtos(root: string): Plugin {
  return {
    name: "embedded-protos",
    setup(build) {
      for (const entry of EMBEDDED_PROTOS) {
        build.onLoad({ filter: entry.file }, (args) => {
          const source = readFileSync(args.path, "utf8");
          if (!entry.call.test(source)) throw new Error(`${args.path} loads its .proto differently now: see scripts/bundle/plugins.ts`);
          const json = protoJson(join(root, "node_modules", entry.proto), entry.keepCase);
          return { contents: source.replace(entry.call, () => entry.options.replace("JSON_HERE", () => json)), loader: "js" };
        });
      }
    },
  };
}

function protoJson(path: string, keepCase: boolean): string {
  const root = new protobuf.Root();
  root.loadSync(path, { keepCase });
  root.resolveAll();
  return JSON.stringify(root.toJSON());
}
