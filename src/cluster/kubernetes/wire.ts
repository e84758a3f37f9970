// Kubernetes' own frame around Protocol Buffers: objects, and the changes of a watch. Pure.
// Source: k8s.io/apimachinery, pkg/runtime/serializer/protobuf, and runtime.Unknown.
import { type Fields, fieldsOf } from '#policy/fields.ts';
import { ProtobufError, readMessage, type Shape } from './protobuf.ts';
import { LARGEST_ANSWER } from './retry.ts';
import { SHAPES } from './shapes.ts';

/** The media type of an object, and of a watch with `;stream=watch`. */
export const PROTOBUF = 'application/vnd.kubernetes.protobuf';

const MAGIC = Buffer.from('k8s\0');
const TYPE_META: Shape = { 1: { name: 'apiVersion', type: 'text' }, 2: { name: 'kind', type: 'text' } };
const UNKNOWN: Shape = {
  1: { name: 'typeMeta', type: 'message', shape: TYPE_META },
  2: { name: 'raw', type: 'bytes' },
  3: { name: 'contentEncoding', type: 'text' },
};
const WATCH_EVENT: Shape = {
  1: { name: 'type', type: 'text' },
  2: { name: 'object', type: 'message', shape: { 1: { name: 'raw', type: 'bytes' } } },
};
/** Of what comes before each change: its length, big-endian. */
const LENGTH_BYTES = 4;

/** The fields of an object that a shape names. Throws where it is none, or of a kind that nobody reads so. */
export function readWireObject(input: Buffer): Fields {
  if (!input.subarray(0, MAGIC.length).equals(MAGIC)) throw new ProtobufError('it does not begin with k8s');
  const { typeMeta, raw = Buffer.alloc(0), contentEncoding } = readMessage(input.subarray(MAGIC.length), UNKNOWN);
  const { apiVersion = '', kind = '' } = fieldsOf(typeMeta);
  const shape = SHAPES.get(`${apiVersion} ${kind}`);
  if (shape === undefined || contentEncoding !== undefined || !Buffer.isBuffer(raw)) {
    throw new ProtobufError(`it is ${JSON.stringify(kind)} of ${JSON.stringify(apiVersion)}`);
  }
  const fields = readMessage(raw, shape);
  // A list without items has none of them on the wire.
  return kind === 'PodList' && fields.items === undefined ? { ...fields, items: [] } : fields;
}

/** One change of a watch: its `type` and `object`. */
function readChange(input: Buffer): Fields {
  const { type, object } = readMessage(input, WATCH_EVENT);
  const { raw } = fieldsOf(object);
  if (!Buffer.isBuffer(raw)) throw new ProtobufError('a change is of no object');
  return { type, object: readWireObject(raw) };
}

/** Makes changes of the pieces of a watch's answer. One of megabytes comes in hundreds, which are joined once. */
export class ChangeCutter {
  #parts: Buffer[] = [];
  #length = 0;
  /** Bytes to wait for. */
  #wanted = LENGTH_BYTES;

  /** No change is begun. */
  get isBetween(): boolean {
    return this.#length === 0;
  }

  /** The changes that end in the piece. */
  take(piece: Buffer): readonly Fields[] {
    this.#parts.push(piece);
    this.#length += piece.length;
    if (this.#length < this.#wanted) return [];
    const input = this.#parts.length === 1 ? piece : Buffer.concat(this.#parts, this.#length);
    const changes: Fields[] = [];
    let at = 0;
    this.#wanted = LENGTH_BYTES;
    while (input.length - at >= LENGTH_BYTES) {
      const length = input.readUInt32BE(at);
      if (length > LARGEST_ANSWER) throw new Error(`a change has more than ${LARGEST_ANSWER} bytes`);
      const end = at + LENGTH_BYTES + length;
      if (end > input.length) {
        this.#wanted = LENGTH_BYTES + length;
        break;
      }
      changes.push(readChange(input.subarray(at + LENGTH_BYTES, end)));
      at = end;
    }
    const rest = input.subarray(at);
    this.#parts = rest.length === 0 ? [] : [rest];
    this.#length = rest.length;
    return changes;
  }
}
