/** Configuration of a lab node's own libvirtd. */

/** Without its own host_uuid libvirt takes two nodes of one machine for the same host and refuses to migrate between them. */
export function libvirtdConf(nodeIndex: number): string {
  return `listen_tls = 0
listen_tcp = 0
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_group = "root"
host_uuid = "00000000-0000-4000-8000-${String(nodeIndex).padStart(12, "0")}"
keepalive_interval = 2
keepalive_count = 3
max_clients = 200
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
`;
}

/** No cgroups and no mount namespaces of QEMU's own: the node's namespaces hide the first and are in the way of the second. */
export function qemuConf(): string {
  return `user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
keepalive_interval = 2
keepalive_count = 3
`;
}
