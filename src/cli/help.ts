/** `roost help`: teaches by example, then lists; and topics that are no commands. */

export const EXAMPLES = `
Begin on a bare host:
  roost up                                  a cluster of one, useful at once
  roost token create                        on it: a token for one more node
  roost join TOKEN                          on the next host

A pool and a VM:
  roost pool create images --path /srv/roost --shared
  roost vm create -f web.yaml --wait        roost help vm-file shows one
  roost vm list
  roost vm show web
  roost vm delete web --wait

When a machine dies:
  roost node list                           which one
  roost ha show                             what moved where, and how long it took
  roost node fence n3 --confirmed           you know that it is off: do not wait for proof

When something does not get on:
  roost task list --open                    what is under way, and what it waits for
  roost task show t12                       what happened, what was undone, what to do
  roost doctor                              look for what should not be, on every node

For scripts:
  roost vm list -o json | jq -r '.[] | select(.state != "running") | .name'
  roost vm start a b c --wait --timeout 2m || echo "not all run"

From elsewhere:
  roost context issue > lab.yaml            on a node
  ROOST_CONTEXT=./lab.yaml roost vm list    anywhere that reaches a node

Topics: roost help vm-file | policy-file | exit-codes | environment
`;

const VM_FILE = `A VM definition. YAML or JSON; only name, cpus and memory have no default.

  name: web                    # 1 to 63 lower-case letters, digits, dashes
  cpus: 2
  memory: 512MiB               # or 2GiB
  arch: x86_64                 # default: that of the node that answers
  boot:                        # leave out to boot from the first disk
    kernel: images/vmlinuz     # POOL/FILE
    initrd: images/initrd.img
    cmdline: console=ttyS0
  disks:
    - pool: images             # where the VM's own volume lies
      source: images/base.qcow2  # copied, because clone is true by default
      size: 10GiB              # larger than the source, or of an empty disk
      # target: vda  bus: virtio  format: qcow2  device: disk  readonly: false  cache: default
      # clone: false uses the source as it is; with format: raw also  shareable: true  for several writers, without image lock
  nics:
    - bridge: br0              # mac is made up if not given; model: virtio
  labels: { tier: front }
  vdc: web                     # tenant, scope of settings; default: default
  partition: gold              # only nodes of this partition; default: those without one
  requirements: label.disk = "ssd" & cpus >= 8   # must hold of the node (docs/expressions.md)
  rank: freeMemoryMib          # the node with the highest wins, instead of the score
  cpu-pinning: {numa: one}     # CPUs of its own, of one NUMA node; any: wherever they are free
  cpu:
    model: host                # or as libvirt names it; default: the best that can move
    features: [avx2]           # the node must have them
  restart: on-failure          # never, on-failure, always
  ha:
    enabled: true              # default: yes where all its pools are shared
    priority: 10               # higher is recovered first
    on-quorum-loss: stop       # stop, keep

Several VMs: documents with --- between them, or

  vms:
    - name: a
      cpus: 1
      memory: 128MiB
    - name: b
      cpus: 1
      memory: 128MiB

roost vm create -f FILE --plan checks it against the cluster and creates nothing.
roost vm export NAME prints the definition of a VM that exists.
`;

const POLICY_FILE = `A placement policy. YAML or JSON; docs/policies.md has more examples.

  name: web-apart
  rule: must                   # must, must-not, prefer, prefer-not (with not: nodes only)
  members: [web1, web2]        # VMs by name or id
  member-labels: {app: web}    # and VMs with all these labels, also those that are still to come
  place: different-nodes       # or same-node: how the members are to each other

Instead of place, the nodes or the zones that it is about, never both:

  nodes: [n1, n2]
  node-labels: {disk: ssd}     # and nodes with all these labels
  zones: [east]                # or primary, secondary

  weight: 10                   # of preferences: higher first, then by id; default 1
  enabled: false               # make it, but leave it off

Several policies: documents with --- between them, or policies: [...].

roost policy lint -f FILE says what is wrong with it, also if any one node or zone were lost, and changes nothing.
`;

const EXIT_CODES = `Exit codes. Of several items, that of the first that failed.

  0  done
  1  failed
  2  wrong usage, or input that is not valid
  3  not found
  4  not possible now: wrong state, name taken, limit reached
  5  no node or no leader can be reached
  6  time is up (--timeout)
  7  not allowed
  8  --wait: it came to rest elsewhere than at its goal
  130  interrupted
`;

const ENVIRONMENT = `Which cluster is called, strongest first:

  --socket PATH         socket of a daemon on this host
  --context NAME|FILE   a context file, or its name in the config folder
  ROOST_CONTEXT         the same
  ROOST_SOCKET          socket of a daemon on this host
  ROOST_DATA            its data folder: the socket is roost.sock in it
  roost context use     the context chosen for good
  (nothing)             /var/lib/roost/roost.sock

NO_COLOR turns colours off. The daemon's options: roost config explain
`;

export const TOPICS: Record<string, string> = {
  "vm-file": VM_FILE,
  "policy-file": POLICY_FILE,
  "exit-codes": EXIT_CODES,
  environment: ENVIRONMENT,
};
