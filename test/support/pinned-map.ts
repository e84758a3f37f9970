// The maps of a datapath that runs, by their pins.
import { closeObject, getPinned, handleOf, type MapHandle } from '#kernel/bpf.ts';

/** Lets `use` have a map; `tables`: where the datapath's are pinned. Throws Error where there is none of this name. */
export function withPinnedMap<Value>(tables: string, name: string, use: (map: MapHandle) => Value): Value {
  const fd = getPinned(`${tables}/${name}`);
  if (fd === null) throw new Error(`${name} is not pinned`);
  try {
    return use(handleOf(fd));
  } finally {
    closeObject(fd);
  }
}
