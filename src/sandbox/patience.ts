// How long the sandbox waits where programs are emulated.

/**
 * How many times as long as usual the sandbox waits for its agents and for evidence. In a guest of `make kernels` two agents are
 * still starting after a minute (docs/testing.md).
 */
export const PATIENCE: number = process.env.MOAT_GUEST === 'true' ? 10 : 1;
