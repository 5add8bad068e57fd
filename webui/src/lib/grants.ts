// Grants in a form: a role and, as text or choice, where it holds.
import type { Grant } from "../api/client";
import { labelsText, parseLabels } from "./labels";

export interface GrantForm {
  role: string;
  where: "cluster" | "labels" | "object";
  labels: string;
  /** `vm/ID`. */
  object: string;
}

export const EMPTY_GRANT: GrantForm = { role: "", where: "cluster", labels: "", object: "" };

export function toForm(grants: readonly Grant[] | undefined): GrantForm[] {
  return (grants ?? []).map(({ role, scope }) => ({
    role,
    where: scope.kind,
    labels: scope.kind === "labels" ? labelsText(scope.labels) : "",
    object: scope.kind === "object" ? `${scope.object}/${scope.id}` : "",
  }));
}

export function fromForm(forms: readonly GrantForm[]): Grant[] {
  return forms.map(({ role, where, labels, object }): Grant => {
    if (where === "cluster") return { role, scope: { kind: "cluster" } };
    if (where === "labels") return { role, scope: { kind: "labels", labels: parseLabels(labels) } };
    const [kind = "", id = ""] = object.split("/");
    return { role, scope: { kind: "object", object: kind as "vm", id } };
  });
}

/** What is wrong with one, to be said at it. */
export function fault({ role, where, labels, object }: GrantForm): string | undefined {
  if (!role) return "Choose a role.";
  if (where === "labels" && Object.keys(parseLabels(labels)).length === 0)
    return "Write at least one label, like env=test.";
  if (where === "object" && !object) return "Choose an object.";
  return undefined;
}
