/** A place where volumes lie (STO-1). */
export interface Pool {
  id: string;
  name: string;
  kind: "dir";
  /** Folder, the same on each node. */
  path: string;
  /** True: all nodes see the same files, so a VM with its disks there can be recovered elsewhere. */
  shared: boolean;
  createdAtMs: number;
  revision: number;
}
