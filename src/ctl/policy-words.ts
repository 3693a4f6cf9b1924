// SPDX-License-Identifier: Apache-2.0
//
// Network policies in words. Pure.
import type {
  DirectionExplanation,
  End,
  ExplainRequest,
  Explanation,
  ListPoliciesResponse,
  Pod,
  PolicyRef,
  RuleCount,
  RuleRef,
} from "../gen/flatnet/policy/v1/policy.ts";
import { CtlError } from "./errors.ts";
import { formatCount, formatTable, plural } from "./words.ts";

type Target = Pick<ExplainRequest, "destination" | "port" | "protocol">;

/**
 * "shop/web:80", "10.0.0.1:53/udp", "[fd00::1]:443", "shop/web/icmp".
 * @throws CtlError CTL_USAGE
 */
export function parseTarget(text: string): Target {
  const [, before = text, suffix = "tcp"] = /^(.*)\/(tcp|udp|sctp|icmp)$/i.exec(text) ?? [];
  const protocol = suffix.toLowerCase();
  if (protocol === "icmp") return { destination: withoutBrackets(before), port: 0, protocol };
  const [, destination = "", digits = ""] = /^(.+):(\d{1,5})$/.exec(before) ?? [];
  const port = Number(digits);
  // Without brackets the end of an IPv6 address may be meant.
  const isClear = !destination.includes(":") || (destination.startsWith("[") && destination.endsWith("]"));
  if (!isClear || port < 1 || port > 65_535) {
    const rule = "a pod or an address with a port, like shop/web:80, 10.0.0.1:53/udp or [fd00::1]:443";
    throw new CtlError("CTL_USAGE", `${JSON.stringify(text)} is not DST:PORT[/PROTOCOL]: ${rule}`);
  }
  return { destination: withoutBrackets(destination), port, protocol };
}

function withoutBrackets(text: string): string {
  return text.startsWith("[") && text.endsWith("]") ? text.slice(1, -1) : text;
}

/** The answer in a line, and below it what each direction says. */
export function explanationLines(
  { allowed, source, destination, directions }: Explanation,
  { port, protocol }: Pick<Target, "port" | "protocol">,
): string[] {
  const on = protocol === "icmp" ? "ICMP" : `${protocol.toUpperCase()} ${port}`;
  const head = `${endText(source)} to ${endText(destination)}, ${on}: ${allowed ? "allowed" : "denied"}`;
  if (directions.length === 0) return [head, "  neither end is a pod that policies could be about"];
  return [head, ...directions.flatMap(directionLines)];
}

function endText(end: End | undefined): string {
  const { address = "", pod, node = "" } = end ?? {};
  const who = pod !== undefined ? podText(pod) : node !== "" ? `node ${node}` : "no pod or node that is known";
  return `${address} (${who})`;
}

function directionLines(of: DirectionExplanation): string[] {
  const { direction, pod, judgedOn } = of;
  const [reason = "", ...rules] = reasonLines(of);
  const elsewhere =
    judgedOn === "" ? [] : [`    ${judgedOn} judges it: this is what follows from what this node knows`];
  return [`  ${direction} of ${podText(pod)}: ${reason}`, ...rules.map((rule) => `    ${rule}`), ...elsewhere];
}

function reasonLines({ allowed, because, rules, policies, direction }: DirectionExplanation): string[] {
  const verdict = allowed ? "allowed" : "denied";
  switch (because) {
    case "self":
      return [`${verdict}, a pod and itself`];
    case "node":
      return [`${verdict}, a pod and its own node`];
    case "unselected":
      return [`${verdict}, no policy is about it`];
    case "rule":
      return [`${verdict} by`, ...rules.map(ruleText)];
    case "isolated":
      return [`${verdict}, it is selected by these and no rule of them allows it`, ...policies.map(refText)];
    case "unmatched":
      return [`${verdict}, it is selected by policies of the whole cluster, and none of their rules decides`];
    case "unknown":
      return [`${verdict}, nobody knows yet which policies are about it`];
    default:
      return [`${verdict} (${direction}: ${because})`];
  }
}

/** Policies, what their rules have counted, pods; and what is wrong. */
export function policyLines({ policies, known, rules, pods, problem }: ListPoliciesResponse): string[] {
  const lines: string[] = [];
  if (policies.length > 0) {
    const rows = policies.map(({ policy, pods: count }) => [refText(policy), formatCount(count)]);
    lines.push(...formatTable([["POLICY", "PODS HERE"], ...rows]));
    for (const { policy, problems } of policies) {
      for (const text of problems) lines.push(`${refText(policy)} can't be used as a whole: ${text}`);
    }
    lines.push("");
  }
  // What is nobody's policy's is worth a line when it happened.
  const counts = rules.filter(({ policies: of, packets }) => of.length > 0 || packets > 0n);
  if (counts.length > 0) {
    const rows = counts.map((count) => {
      const { direction, verdict, packets, bytes } = count;
      return [verdict, direction === "" ? "-" : direction, formatCount(packets), formatCount(bytes), byWhom(count)];
    });
    lines.push(...formatTable([["VERDICT", "DIRECTION", "PACKETS", "BYTES", "BY"], ...rows]), "");
  }
  if (pods.length > 0) {
    const rows = pods.map(({ pod, addresses, ingress, egress, unknown }) => {
      const [first = "-", ...others] = [ingress, egress].map((refs) =>
        unknown ? "not known yet" : refs.length === 0 ? "open" : refs.map(nameText).join(", "),
      );
      return [podText(pod), addresses.join(", "), first, ...others];
    });
    lines.push(...formatTable([["POD", "ADDRESSES", "INGRESS", "EGRESS"], ...rows]), "");
  }
  lines.push(summary(policies.filter(({ pods: count }) => count > 0).length, known, pods.length));
  if (problem !== "") lines.push(`Not all of it is in force: ${problem}.`);
  return lines;
}

function summary(here: number, known: number, pods: number): string {
  const select = here === 1 ? "selects" : "select";
  return `${formatCount(here)} of ${plural(known, "policy", "policies")} ${select} ${plural(pods, "pod", "pods")} of this node.`;
}

/** Whose rule it is; who is to blame where nothing allowed it. */
function byWhom({ rules, policies, direction }: RuleCount): string {
  if (rules.length > 0) return rules.map(ruleText).join(", ");
  if (policies.length > 0) return `no rule of ${policies.map(refText).join(", ")}`;
  return direction === "" ? "what nobody knows yet: pods, or connections that are under way" : "-";
}

/** For programs; numbers as numbers. */
export function policyText(state: ListPoliciesResponse): string {
  const rules = state.rules.map((rule) => ({ ...rule, packets: Number(rule.packets), bytes: Number(rule.bytes) }));
  return JSON.stringify({ version: 1, ...state, rules }, undefined, 2);
}

function ruleText({ policy, direction, rule }: RuleRef): string {
  return `${refText(policy)} ${direction}[${rule}]`;
}

function refText(ref: PolicyRef | undefined): string {
  return `${ref?.kind ?? ""} ${nameText(ref)}`;
}

function nameText(ref: PolicyRef | undefined): string {
  const { namespace = "", name = "" } = ref ?? {};
  return namespace === "" ? name : `${namespace}/${name}`;
}

function podText(pod: Pod | undefined): string {
  return `${pod?.namespace ?? ""}/${pod?.name ?? ""}`;
}
