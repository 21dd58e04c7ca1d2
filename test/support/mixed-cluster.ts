/** A cluster as a plan file, in which what is refused differs from node to node. */
export const MIXED_CLUSTER = `
node n1 cpus=4 memory=4096
node n2 cpus=4 memory=4096 bridges=br0
node n3 cpus=4 memory=2048 state=maintenance
node n4 cpus=4 memory=1024 arch=aarch64
vm a cpus=1 memory=3072 node=n1
vm b cpus=1 memory=512 node=n1
vm c cpus=1 memory=3584 node=n2
`;
