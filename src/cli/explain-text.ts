// An explanation as text: the answer first, then each end's story, and where in the manifests each rule stands.
import { stripVTControlCharacters } from 'node:util';
import type { Explanation, LegStory, PolicyStory, RuleStory } from '#analyze/explain.ts';
import { formatAddress } from '#net/address.ts';
import type { Direction, Source } from '#policy/model.ts';
import { plain } from '#policy/render.ts';
import { auditedBy, type Flow, type LegReason, type LegVerdict, type Verdict } from '#policy/verdict.ts';
import type { PortOption } from './options.ts';
import { outputWidth, styled } from './output.ts';
import { portText } from './probe-ends.ts';

const VERDICTS: Readonly<Record<Verdict, string>> = { allow: 'allowed', deny: 'denied', reject: 'rejected' };

const REASONS: Readonly<Record<Exclude<LegReason, 'rule' | 'default-deny'>, string>> = {
  open: 'no policy isolates this end in this direction, so everything passes',
  'not-endpoint': 'no pod of its own address is here, so no policy judges this end',
  self: 'a pod always reaches its own address',
  'own-node': "a pod's own node always reaches it",
  'peer-unknown': 'the address is in a block that pods get theirs from, but no pod known has it',
};

/** A flow with its explanation. */
export type Explained = { readonly flow: Flow; readonly explanation: Explanation };

/** The whole explanation of the first, and the answer alone of the same connection by the other address family. */
export function explanationText(first: Explained, other: Explained | null, port: PortOption): string {
  const { egress, ingress } = first.explanation;
  const answer = `${egress.end} → ${ingress.end}, ${portText(port)}: ${answerText(first)}`;
  const families = other === null ? [] : [first, other].map(familyLine);
  const legs = ['', ...legLines('egress', egress), '', ...legLines('ingress', ingress)];
  return [styled('bold', answer), ...families, ...legs].map((line) => hanging(line, outputWidth())).join('\n');
}

function answerText({ explanation: { verdict } }: Explained): string {
  const audited = auditedBy(verdict);
  if (audited !== null) return `${AUDITED}; ${decider(audited)} would be ${wouldBe(verdict[audited])}`;
  return verdictText(verdict.verdict) + (verdict.decidedBy === null ? '' : ` by ${decider(verdict.decidedBy)}`);
}

/** Where both ends have two families, one says nothing of the other. */
function familyLine(explained: Explained, index: number): string {
  const { from, to } = explained.flow;
  const how = index === 0 ? 'as told below' : answerText(explained);
  return `  over IPv${from.family}, ${formatAddress(from)} → ${formatAddress(to)}: ${how}`;
}

/** `examples/shop/policies.yaml:12`, as far as it is known. */
export function sourceText({ file, line }: Pick<Source, 'file' | 'line'>): string {
  if (file === null) return '';
  return line === null ? plain(file) : `${plain(file)}:${line}`;
}

const AUDITED = styled('yellow', 'allowed by audit alone');

function wouldBe({ audited = 'deny' }: LegVerdict): string {
  return VERDICTS[audited];
}

function decider(direction: Direction): string {
  return direction === 'egress' ? "the sender's end (egress)" : "the receiver's end (ingress)";
}

function legLines(direction: Direction, leg: LegStory): readonly string[] {
  const byAudit = `${AUDITED}; enforced, it would be ${wouldBe(leg)}`;
  const heading = `${direction} of ${leg.end}: ${leg.audited === undefined ? verdictText(leg.verdict) : byAudit}`;
  const tiers = leg.tiers.flatMap((tier) => [`  tier ${tier.tier}`, ...tier.policies.flatMap(policyLines)]);
  return [heading, ...tiers, `  ⇒ ${conclusion(leg)}`];
}

function conclusion({ reason, rule, tiers }: LegStory): string {
  if (reason === 'rule') return `rule ${rule}`;
  if (reason !== 'default-deny') return REASONS[reason];
  const isolating = tiers.flatMap(({ policies }) => policies).filter(({ isolates }) => isolates);
  return `isolated by ${isolating.map(({ policy }) => policy).join(', ')}; no rule allows this`;
}

function policyLines({ policy, source, isolates, rules }: PolicyStory): readonly string[] {
  const note = isolates ? 'isolates' : 'does not isolate';
  const none = rules.length === 0 ? '; has no rule here' : '';
  return [`    ${policy} ${place(source)}: ${note}${none}`, ...rules.map(ruleLine)];
}

function ruleLine({ mismatch, source, action }: RuleStory): string {
  const where = `${source.path} ${place(source)}`;
  if (mismatch === null) return `      ${styled('green', '✔')} ${where}: matches, ${action}`;
  return `      ${styled('dim', '–')} ${where}: ${mismatch}`;
}

function place(source: Source): string {
  const text = sourceText(source);
  return text === '' ? '' : styled('dim', `(${text})`);
}

function verdictText(verdict: Verdict): string {
  return styled(verdict === 'allow' ? 'green' : 'red', VERDICTS[verdict]);
}

/** A line broken at spaces to fit, what follows standing four deeper than its beginning. */
function hanging(line: string, width: number): string {
  const indent = /^ */.exec(line)?.[0] ?? '';
  const lines: string[] = [];
  let current = '';
  for (const word of line.slice(indent.length).split(' ')) {
    const lead = lines.length === 0 ? indent : `${indent}    `;
    const longer = current === '' ? lead + word : `${current} ${word}`;
    if (current !== '' && stripVTControlCharacters(longer).length > width) {
      lines.push(current);
      current = `${indent}    ${word}`;
    } else {
      current = longer;
    }
  }
  return [...lines, current].join('\n');
}
