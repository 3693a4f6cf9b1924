// SPDX-License-Identifier: Apache-2.0
//
// The gRPC edge of what people ask about network policies. What answers is loaded when somebody asks.
import type * as wire from "../gen/flatnet/policy/v1/policy.ts";
import { PolicyServiceDefinition } from "../gen/flatnet/policy/v1/policy.ts";
import { IpamError } from "../ipam/errors.ts";
import type { FurtherService } from "../ipam/server.ts";
import type { Counted } from "../policy/rule-counts.ts";
import type { Node } from "../routes/source.ts";
import type { PolicyKnowledge } from "./policy-knowledge.ts";

/** Whoever enforces policies. */
export interface AskedPolicy {
  readonly knowledge: PolicyKnowledge;
  counters(): Promise<readonly Counted[]>;
}

export interface PolicyServiceOptions {
  /** undefined where network policies aren't enforced. */
  readonly policy: AskedPolicy | undefined;
  readonly nodeName: string;
  readonly nodes: () => readonly Node[];
}

/** The service, for the daemon's socket. */
export function policyService(options: PolicyServiceOptions): FurtherService {
  const policy = () => {
    if (options.policy === undefined) {
      throw new IpamError("IPAM_PRECONDITION", "network policies aren't enforced on this node");
    }
    return options.policy;
  };
  return {
    definition: PolicyServiceDefinition,
    methods: {
      explain: async (message: wire.ExplainRequest): Promise<wire.ExplainResponse> => {
        const { knowledge } = policy();
        const { explainAll } = await import("./policy-questions.ts");
        return explainAll(knowledge, message, { nodeName: options.nodeName, nodes: options.nodes() });
      },
      listPolicies: async (): Promise<wire.ListPoliciesResponse> => {
        const { listPolicies } = await import("./policy-questions.ts");
        const counted = await policy().counters();
        return listPolicies(policy().knowledge, counted);
      },
    },
  };
}
