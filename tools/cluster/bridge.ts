// The network of nodes without Moat: the reference bridge plugin, with addresses of the node's blocks, and host ports.

/** In the folder of network configurations. */
export const BRIDGE_FILE = '10-bridge.conflist';

/** Its configuration for a node with these blocks: cni0 is its pods' gateway. */
export function bridgeConfig(blocks: readonly string[]): string {
  const ipam = { type: 'host-local', ranges: blocks.map((subnet) => [{ subnet }]) };
  const bridge = { type: 'bridge', bridge: 'cni0', isGateway: true, isDefaultGateway: true, hairpinMode: true, ipam };
  const portmap = { type: 'portmap', capabilities: { portMappings: true } };
  return JSON.stringify({ cniVersion: '0.4.0', name: 'bridged', plugins: [bridge, portmap] }, null, 2);
}
