// Hashes of what whoever creates pods chooses: which texts collide is not known before the process starts.

/** Odd, and another one in each process. */
const FACTOR = (Math.random() * 2 ** 32) | 1;

/** 32 bits of a text, and of what came before it. */
export function hashText(text: string, before = 0): number {
  let hash = before;
  for (let index = 0; index < text.length; index++) hash = hashNumber(text.charCodeAt(index), hash);
  return hash;
}

/** The same of a number. One above 0xffff cannot be taken for a part of a text. */
export function hashNumber(number: number, before: number): number {
  const hash = Math.imul(before ^ number, FACTOR);
  return hash ^ (hash >>> 15);
}
