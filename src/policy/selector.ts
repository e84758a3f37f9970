// Label selectors as values, and what they match (Kubernetes labels.Selector semantics).

export type Labels = Readonly<Record<string, string>>;

/** One condition on a label. NotIn and DoesNotExist also hold where the key is absent. */
export type Requirement =
  | { readonly op: 'In' | 'NotIn'; readonly key: string; readonly values: readonly string[] }
  | { readonly op: 'Exists' | 'DoesNotExist'; readonly key: string };

/** All requirements hold; no requirement matches everything. */
export type LabelSelector = { readonly requirements: readonly Requirement[] };

/** The selector that matches everything. */
export const EVERYTHING: LabelSelector = { requirements: [] };

/** True where the labels meet every requirement. */
export function selectorMatches(selector: LabelSelector, labels: Labels): boolean {
  return selector.requirements.every((requirement) => requirementHolds(requirement, labels));
}

function requirementHolds(requirement: Requirement, labels: Labels): boolean {
  const value = Object.hasOwn(labels, requirement.key) ? labels[requirement.key] : undefined;
  switch (requirement.op) {
    case 'In':
      return value !== undefined && requirement.values.includes(value);
    case 'NotIn':
      return value === undefined || !requirement.values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
  }
}
