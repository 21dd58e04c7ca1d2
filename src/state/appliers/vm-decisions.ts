/** The scheduler's certificate of a plan, taken apart for the rows of its VMs (SCH-17). */
import { type Certificate, VM_DECISIONS_KEPT, type VmDecision } from "../../model/certificate.ts";
import type { Vm } from "../../model/vm.ts";
import type { Transaction } from "../transaction.ts";

/** What to change on each VM's row: nothing for VMs the certificate does not name, and without a certificate. */
export function decisionsWith(tx: Transaction, certificate: Certificate | undefined): (vm: Vm) => Pick<Vm, "decisions"> {
  if (certificate === undefined) return () => ({});
  tx.certificate = certificate;
  const { nodes, vms, viewIndex, method, proven } = certificate;
  const found = new Map<string, VmDecision>();
  for (const [vm, node, score, refused, top] of certificate.decisions) {
    const vmId = vms[vm];
    if (vmId === undefined) continue;
    found.set(vmId, {
      index: tx.index,
      viewIndex,
      atMs: tx.atMs,
      nodeId: nodes[node] ?? null,
      score,
      refused: { ...refused },
      top: top.map(([one, its]) => ({ nodeId: nodes[one] ?? "", score: its })),
      method,
      proven,
    });
  }
  return (vm) => {
    const decision = found.get(vm.id);
    return decision === undefined ? {} : { decisions: [...(vm.decisions ?? []), decision].slice(-VM_DECISIONS_KEPT) };
  };
}
