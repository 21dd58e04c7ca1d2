/** A machine's management controller that speaks Redfish over real TLS, and misbehaves on request. */
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { X509Certificate } from "node:crypto";
import { createCa, createKeyAndRequest, issue } from "../../src/cluster/certificates.ts";
import { newSecret } from "../../src/base/ids.ts";
import { PASSWORD, type PowerFault } from "../contract/power-fence.ts";

export interface FakeBmc {
  /** HOST:PORT. */
  address: string;
  ca: string;
  /** SHA-256 of its certificate in hex. */
  fingerprint: string;
  state: { power: string; fault: PowerFault | null; systems: string[] };
  /** `METHOD PATH` of each request with a right password. */
  asked: string[];
  close(): Promise<void>;
}

export async function fakeBmc(): Promise<FakeBmc> {
  const nowMs = Date.now();
  const ca = await createCa({ clusterId: "bmc", nowMs, serial: newSecret(16) });
  const { keyPem, requestPem } = await createKeyAndRequest();
  const subject = { kind: "node", nodeId: "bmc" } as const;
  const cert = await issue(ca, requestPem, { subject, names: ["127.0.0.1"], nowMs, ttlMs: 3_600_000, serial: newSecret(16) });
  const state: FakeBmc["state"] = { power: "On", fault: null, systems: ["1"] };
  const asked: string[] = [];
  const authorization = `Basic ${Buffer.from(`roost:${PASSWORD}`).toString("base64")}`;
  const server: Server = createServer({ key: keyPem, cert }, (request, response) => {
    const answer = (status: number, body: object = {}): void => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(body));
    };
    if (request.headers.authorization !== authorization) return answer(401);
    const path = request.url ?? "";
    asked.push(`${request.method ?? ""} ${path}`);
    const members = state.systems.map((id) => ({ "@odata.id": `/redfish/v1/Systems/${id}` }));
    const system = state.systems.find((id) => path === `/redfish/v1/Systems/${id}`);
    if (path === "/redfish/v1/Systems") return answer(200, { Members: members });
    if (system !== undefined) {
      const reset = { target: `${path}/Actions/ComputerSystem.Reset`, "ResetType@Redfish.AllowableValues": ["On", "ForceOff"] };
      return answer(200, { Id: system, PowerState: state.power, Actions: { "#ComputerSystem.Reset": reset } });
    }
    if (request.method !== "POST" || !path.endsWith("/Actions/ComputerSystem.Reset")) return answer(404);
    let text = "";
    request.on("data", (chunk: Buffer) => (text += chunk.toString("utf8")));
    request.on("end", () => {
      const { ResetType } = JSON.parse(text) as { ResetType: string };
      switch (state.fault) {
        case "slow":
          return;
        case "lies":
          return answer(204);
        case "dies-early":
          return void request.socket.destroy();
        case "dies-late":
          state.power = "Off";
          return void request.socket.destroy();
        case null:
          // Some refuse what is so already.
          if (state.power === "Off" && ResetType === "ForceOff") return answer(409);
          state.power = ResetType === "ForceOff" ? "Off" : "On";
          return answer(204);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    address: `127.0.0.1:${port}`,
    ca: ca.certificatePem,
    fingerprint: new X509Certificate(cert).fingerprint256.replaceAll(":", "").toLowerCase(),
    state,
    asked,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
