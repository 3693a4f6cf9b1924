// SPDX-License-Identifier: Apache-2.0
//
// What the end-to-end suite of Kubernetes asks of a network plugin's NetworkPolicy, as a table: three namespaces x, y, z with
// three pods a, b, c each, every pod serving on 80 and 81 by TCP, UDP and SCTP. A scenario is a row of steps, each with the policies
// there are then, what labels are other than at first, and who reaches whom.
import type { LabelSelector, PolicyObject, PolicySpec, TestCluster, TestPod } from "./evaluator.ts";

export type Protocol = "TCP" | "UDP" | "SCTP";

/** "x/a" */
export type PodName = `${"x" | "y" | "z"}/${"a" | "b" | "c"}`;

export interface Probe {
  readonly from: PodName;
  readonly to: PodName;
  readonly protocol: Protocol;
  readonly port: 80 | 81;
}

export interface Step {
  readonly policies: readonly PolicyObject[];
  /** In the place of the labels that the pod has at first. */
  readonly podLabels?: Partial<Record<PodName, Record<string, string>>>;
  readonly namespaceLabels?: Partial<Record<"x" | "y" | "z", Record<string, string>>>;
  /** Which protocols and ports are tried. */
  readonly tries: readonly (readonly [Protocol, 80 | 81])[];
  /** Whether the probe arrives; a pod always reaches itself and isn't asked about. */
  readonly reaches: (probe: Probe) => boolean;
}

export interface Scenario {
  readonly title: string;
  readonly steps: readonly Step[];
}

/** Addresses are given at run time. */
export type AddressOf = (pod: PodName) => string;

const NAMESPACES = ["x", "y", "z"] as const;
const PODS = ["a", "b", "c"] as const;
export const POD_NAMES: readonly PodName[] = NAMESPACES.flatMap((ns) => PODS.map((pod) => `${ns}/${pod}` as const));

/** Nodes and addresses of each family, for where nothing real has others. */
export const MADE_UP_NODES = [
  { name: "n1", addresses: ["172.18.0.1", "fd00:18::1"] },
  { name: "n2", addresses: ["172.18.0.2", "fd00:18::2"] },
];
export const MADE_UP_ADDRESSES: Readonly<Record<"IPv4" | "IPv6", AddressOf>> = {
  IPv4: (pod) => `10.244.1.${POD_NAMES.indexOf(pod) + 2}`,
  IPv6: (pod) => `fd00:244:1::${POD_NAMES.indexOf(pod) + 2}`,
};
export const PORTS = [80, 81] as const;
export const PROTOCOLS: readonly Protocol[] = ["TCP", "UDP", "SCTP"];

/** The cluster of a step. Pod a of each namespace is on the first node, b on the second, c on the third or the first again. */
export function clusterOf(
  { policies, podLabels = {}, namespaceLabels = {} }: Step,
  addressesOf: (pod: PodName) => readonly string[],
  nodes: TestCluster["nodes"],
): TestCluster {
  return {
    nodes,
    namespaces: NAMESPACES.map((name) => ({
      name,
      labels: namespaceLabels[name] ?? { ns: name, "kubernetes.io/metadata.name": name },
    })),
    pods: POD_NAMES.map((full): TestPod => {
      const [namespace = "", name = ""] = full.split("/");
      return {
        namespace,
        name,
        node: nodes[PODS.indexOf(name as "a") % nodes.length]?.name ?? "",
        labels: podLabels[full] ?? { pod: name },
        addresses: addressesOf(full),
        ports: PROTOCOLS.flatMap((protocol) =>
          PORTS.map((port) => ({ name: `serve-${port}-${protocol.toLowerCase()}`, protocol, port })),
        ),
      };
    }),
    policies,
  };
}

function policy(namespace: string, name: string, spec: PolicySpec): PolicyObject {
  return { metadata: { namespace, name }, spec };
}

const pod = (...names: readonly string[]): LabelSelector =>
  names.length === 1
    ? { matchLabels: { pod: names[0] as string } }
    : { matchExpressions: [{ key: "pod", operator: "In", values: names }] };
const ns = (...names: readonly string[]): LabelSelector =>
  names.length === 1
    ? { matchLabels: { ns: names[0] as string } }
    : { matchExpressions: [{ key: "ns", operator: "In", values: names }] };

const of = (name: string): string => name.split("/")[0] as string;
const TCP80 = [["TCP", 80]] as const;
const TCP_BOTH = [
  ["TCP", 80],
  ["TCP", 81],
] as const;
const EVERYTHING = PROTOCOLS.flatMap((protocol) => PORTS.map((port) => [protocol, port] as const));
const everybody = () => true;

const DENY_INGRESS: PolicySpec = { podSelector: {}, policyTypes: ["Ingress"] };
const DENY_EGRESS: PolicySpec = { podSelector: {}, policyTypes: ["Egress"] };
const DENY_ALL: PolicySpec = { podSelector: {}, policyTypes: ["Ingress", "Egress"] };

/** The scenarios that need no address. */
const SCENARIOS: readonly Scenario[] = [
  {
    title: "without a policy everybody reaches everybody",
    steps: [{ policies: [], tries: EVERYTHING, reaches: everybody }],
  },
  {
    title: "a default-deny-ingress policy closes its namespace, and no other",
    steps: [{ policies: [policy("x", "deny", DENY_INGRESS)], tries: EVERYTHING, reaches: ({ to }) => of(to) !== "x" }],
  },
  {
    title: "a default-deny-all policy closes its namespace both ways",
    steps: [
      {
        policies: [policy("x", "deny", DENY_ALL)],
        tries: EVERYTHING,
        reaches: ({ from, to }) => of(to) !== "x" && of(from) !== "x",
      },
    ],
  },
  {
    title: "pods of the server's namespace are allowed by their labels",
    steps: [
      {
        policies: [
          policy("x", "allow-b", {
            podSelector: pod("a"),
            policyTypes: ["Ingress"],
            ingress: [{ from: [{ podSelector: pod("b") }] }],
          }),
        ],
        tries: TCP80,
        reaches: ({ from, to }) => to !== "x/a" || from === "x/b",
      },
    ],
  },
  {
    title: "a policy for one pod leaves the others of its namespace alone",
    steps: [
      {
        policies: [policy("x", "deny-a", { podSelector: pod("a"), policyTypes: ["Ingress"] })],
        tries: TCP80,
        reaches: ({ to }) => to !== "x/a",
      },
    ],
  },
  {
    title: "ingress from pods of all namespaces",
    steps: [
      {
        policies: [
          policy("x", "deny", DENY_INGRESS),
          policy("x", "allow", { podSelector: pod("a"), ingress: [{ from: [{ namespaceSelector: {} }] }] }),
        ],
        tries: TCP80,
        reaches: ({ to }) => of(to) !== "x" || to === "x/a",
      },
    ],
  },
  {
    title: "ingress from another namespace only, by its labels",
    steps: [
      {
        policies: [
          policy("x", "allow-y", { podSelector: pod("a"), ingress: [{ from: [{ namespaceSelector: ns("y") }] }] }),
        ],
        tries: TCP80,
        reaches: ({ from, to }) => to !== "x/a" || of(from) === "y",
      },
    ],
  },
  {
    title: "pods are selected by expressions",
    steps: [
      {
        policies: [
          policy("x", "in-b", {
            podSelector: pod("a"),
            ingress: [
              { from: [{ podSelector: { matchExpressions: [{ key: "pod", operator: "In", values: ["b"] }] } }] },
            ],
          }),
        ],
        tries: TCP80,
        reaches: ({ from, to }) => to !== "x/a" || from === "x/b",
      },
      {
        policies: [
          policy("x", "not-in-b", {
            podSelector: pod("a"),
            ingress: [
              { from: [{ podSelector: { matchExpressions: [{ key: "pod", operator: "NotIn", values: ["b"] }] } }] },
            ],
          }),
        ],
        tries: TCP80,
        reaches: ({ from, to }) => to !== "x/a" || from === "x/c",
      },
    ],
  },
  {
    title: "namespaces are selected by expressions",
    steps: [
      {
        policies: [
          policy("x", "not-x", {
            podSelector: pod("a"),
            ingress: [
              {
                from: [{ namespaceSelector: { matchExpressions: [{ key: "ns", operator: "NotIn", values: ["x"] }] } }],
              },
            ],
          }),
        ],
        tries: TCP80,
        reaches: ({ from, to }) => to !== "x/a" || of(from) !== "x",
      },
    ],
  },
  {
    title: "a list of peers is an or",
    steps: [
      {
        policies: [
          policy("x", "b-or-y", {
            podSelector: pod("a"),
            ingress: [{ from: [{ podSelector: pod("b") }, { namespaceSelector: ns("y") }] }],
          }),
        ],
        tries: TCP80,
        reaches: ({ from, to }) => to !== "x/a" || from === "x/b" || of(from) === "y",
      },
    ],
  },
  {
    title: "both selectors of one peer are an and",
    steps: [
      {
        policies: [
          policy("x", "b-of-y", {
            podSelector: pod("a"),
            ingress: [{ from: [{ podSelector: pod("b"), namespaceSelector: ns("y") }] }],
          }),
        ],
        tries: TCP80,
        reaches: ({ from, to }) => to !== "x/a" || from === "y/b",
      },
    ],
  },
  {
    title: "several values of both selectors multiply",
    steps: [
      {
        policies: [
          policy("x", "bc-of-yz", {
            podSelector: pod("a"),
            ingress: [{ from: [{ podSelector: pod("b", "c"), namespaceSelector: ns("y", "z") }] }],
          }),
        ],
        tries: TCP80,
        reaches: ({ from, to }) => to !== "x/a" || (of(from) !== "x" && !from.endsWith("/a")),
      },
    ],
  },
  {
    title: "any of several pod selectors is enough",
    steps: [
      {
        policies: [
          policy("x", "b-or-c", {
            podSelector: pod("a"),
            ingress: [{ from: [{ podSelector: pod("b") }, { podSelector: pod("c") }] }],
          }),
        ],
        tries: TCP80,
        reaches: ({ from, to }) => to !== "x/a" || from === "x/b" || from === "x/c",
      },
    ],
  },
  {
    title: "ports are allowed one by one, and a second policy adds its own",
    steps: [
      {
        policies: [
          policy("x", "81-from-y", {
            podSelector: pod("a"),
            ingress: [{ from: [{ namespaceSelector: ns("y") }], ports: [{ port: 81, protocol: "TCP" }] }],
          }),
        ],
        tries: TCP_BOTH,
        reaches: ({ from, to, port }) => to !== "x/a" || (of(from) === "y" && port === 81),
      },
      {
        policies: [
          policy("x", "81-from-y", {
            podSelector: pod("a"),
            ingress: [{ from: [{ namespaceSelector: ns("y") }], ports: [{ port: 81, protocol: "TCP" }] }],
          }),
          policy("x", "80-from-y", {
            podSelector: pod("a"),
            ingress: [{ from: [{ namespaceSelector: ns("y") }], ports: [{ port: 80, protocol: "TCP" }] }],
          }),
        ],
        tries: TCP_BOTH,
        reaches: ({ from, to }) => to !== "x/a" || of(from) === "y",
      },
    ],
  },
  {
    title: "an allow-all policy opens what a deny-all policy closes",
    steps: [
      {
        policies: [
          policy("x", "deny", DENY_ALL),
          policy("x", "allow", { podSelector: {}, ingress: [{}], egress: [{}] }),
        ],
        tries: EVERYTHING,
        reaches: everybody,
      },
    ],
  },
  {
    title: "ingress to a named port",
    steps: [
      {
        policies: [policy("x", "named", { podSelector: {}, ingress: [{ ports: [{ port: "serve-80-tcp" }] }] })],
        tries: TCP_BOTH,
        reaches: ({ to, port }) => of(to) !== "x" || port === 80,
      },
    ],
  },
  {
    title: "ingress from a namespace to a named port",
    steps: [
      {
        policies: [
          policy("x", "named-from-y", {
            podSelector: pod("a"),
            ingress: [{ from: [{ namespaceSelector: ns("y") }], ports: [{ port: "serve-80-tcp" }] }],
          }),
        ],
        tries: TCP_BOTH,
        reaches: ({ from, to, port }) => to !== "x/a" || (of(from) === "y" && port === 80),
      },
    ],
  },
  {
    title: "egress to a named port",
    steps: [
      {
        policies: [
          policy("x", "named", {
            podSelector: pod("a"),
            policyTypes: ["Egress"],
            egress: [{ ports: [{ port: "serve-80-tcp" }] }],
          }),
        ],
        tries: TCP_BOTH,
        reaches: ({ from, port }) => from !== "x/a" || port === 80,
      },
    ],
  },
  {
    title: "a policy that is changed is enforced as it is then, and none after it is deleted",
    steps: [
      {
        policies: [policy("x", "one", { podSelector: {}, ingress: [{ ports: [{ port: 81 }] }] })],
        tries: TCP_BOTH,
        reaches: ({ to, port }) => of(to) !== "x" || port === 81,
      },
      {
        policies: [policy("x", "one", { podSelector: {}, ingress: [{ ports: [{ port: 80 }] }] })],
        tries: TCP_BOTH,
        reaches: ({ to, port }) => of(to) !== "x" || port === 80,
      },
      { policies: [], tries: TCP_BOTH, reaches: everybody },
    ],
  },
  {
    title: "a namespace that gets the label is allowed in",
    steps: [
      {
        policies: [
          policy("x", "from-ns2", {
            podSelector: pod("a"),
            ingress: [{ from: [{ namespaceSelector: { matchLabels: { ns2: "updated" } } }] }],
          }),
        ],
        tries: TCP80,
        reaches: ({ to }) => to !== "x/a",
      },
      {
        policies: [
          policy("x", "from-ns2", {
            podSelector: pod("a"),
            ingress: [{ from: [{ namespaceSelector: { matchLabels: { ns2: "updated" } } }] }],
          }),
        ],
        namespaceLabels: { y: { ns: "y", ns2: "updated" } },
        tries: TCP80,
        reaches: ({ from, to }) => to !== "x/a" || of(from) === "y",
      },
    ],
  },
  {
    title: "a pod that gets the label is allowed in, and out again",
    steps: [{}, { "x/b": { pod: "b", pod2: "updated" } }, {}].map(
      (podLabels): Step => ({
        policies: [
          policy("x", "from-pod2", {
            podSelector: pod("a"),
            ingress: [{ from: [{ podSelector: { matchLabels: { pod2: "updated" } } }] }],
          }),
        ],
        podLabels,
        tries: TCP80,
        reaches: ({ from, to }) => to !== "x/a" || ("x/b" in podLabels && from === "x/b"),
      }),
    ),
  },
  {
    title: "a pod is closed as soon as it gets the label that a policy selects",
    steps: [{}, { "x/a": { pod: "a", target: "isolated" } }].map(
      (podLabels): Step => ({
        policies: [
          policy("x", "isolated", { podSelector: { matchLabels: { target: "isolated" } }, policyTypes: ["Ingress"] }),
        ],
        podLabels,
        tries: TCP80,
        reaches: ({ to }) => to !== "x/a" || !("x/a" in podLabels),
      }),
    ),
  },
  {
    title: "pods of other namespaces are kept out",
    steps: [
      {
        policies: [policy("x", "own", { podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }] })],
        tries: TCP80,
        reaches: ({ from, to }) => of(to) !== "x" || of(from) === "x",
      },
    ],
  },
  {
    title: "egress is denied to one pod",
    steps: [
      {
        policies: [policy("x", "deny-a", { podSelector: pod("a"), policyTypes: ["Egress"] })],
        tries: EVERYTHING,
        reaches: ({ from }) => from !== "x/a",
      },
    ],
  },
  {
    title: "egress is denied to a namespace",
    steps: [
      {
        policies: [policy("x", "deny", DENY_EGRESS)],
        tries: EVERYTHING,
        reaches: ({ from }) => of(from) !== "x",
      },
    ],
  },
  {
    title: "ingress and egress of one policy",
    steps: [
      {
        policies: [
          policy("x", "both", {
            podSelector: pod("a"),
            ingress: [{ from: [{ namespaceSelector: ns("y") }] }],
            egress: [{ to: [{ namespaceSelector: ns("z") }] }],
          }),
        ],
        tries: TCP80,
        reaches: ({ from, to }) => (to !== "x/a" || of(from) === "y") && (from !== "x/a" || of(to) === "z"),
      },
    ],
  },
  {
    title: "egress denied on the client's side stays denied when the server allows it",
    steps: [
      {
        policies: [
          policy("x", "deny-a", { podSelector: pod("a"), policyTypes: ["Egress"] }),
          policy("y", "allow", { podSelector: {}, ingress: [{ from: [{ namespaceSelector: ns("x") }] }] }),
        ],
        tries: TCP80,
        reaches: ({ from, to }) => from !== "x/a" && (of(to) !== "y" || of(from) === "x"),
      },
    ],
  },
  {
    title: "egress to pods of another namespace by both selectors",
    steps: [
      {
        policies: [
          policy("x", "to-y-a", {
            podSelector: pod("a"),
            policyTypes: ["Egress"],
            egress: [{ to: [{ namespaceSelector: ns("y"), podSelector: pod("a") }] }],
          }),
        ],
        tries: TCP80,
        reaches: ({ from, to }) => from !== "x/a" || to === "y/a",
      },
    ],
  },
  {
    title: "ingress and egress of a pod are controlled independently",
    steps: [
      {
        policies: [
          policy("x", "deny-in", { podSelector: pod("a"), policyTypes: ["Ingress"] }),
          policy("x", "allow-out", { podSelector: pod("a"), policyTypes: ["Egress"], egress: [{}] }),
        ],
        tries: TCP80,
        reaches: ({ to }) => to !== "x/a",
      },
      {
        policies: [
          policy("x", "allow-in", { podSelector: pod("a"), policyTypes: ["Ingress"], ingress: [{}] }),
          policy("x", "deny-out", { podSelector: pod("a"), policyTypes: ["Egress"] }),
        ],
        tries: TCP80,
        reaches: ({ from }) => from !== "x/a",
      },
    ],
  },
  {
    title: "SCTP is not taken for TCP",
    steps: [
      {
        policies: [
          policy("x", "sctp", { podSelector: pod("a"), ingress: [{ ports: [{ protocol: "SCTP", port: 81 }] }] }),
        ],
        tries: EVERYTHING,
        reaches: ({ to, protocol, port }) => to !== "x/a" || (protocol === "SCTP" && port === 81),
      },
    ],
  },
  {
    title: "a policy for UDP opens no TCP",
    steps: [
      {
        policies: [
          policy("x", "udp", { podSelector: pod("a"), ingress: [{ ports: [{ protocol: "UDP", port: 80 }] }] }),
        ],
        tries: EVERYTHING,
        reaches: ({ to, protocol, port }) => to !== "x/a" || (protocol === "UDP" && port === 80),
      },
    ],
  },
  {
    title: "all ports of a protocol",
    steps: [
      {
        policies: [policy("x", "tcp", { podSelector: pod("a"), ingress: [{ ports: [{ protocol: "TCP" }] }] })],
        tries: EVERYTHING,
        reaches: ({ to, protocol }) => to !== "x/a" || protocol === "TCP",
      },
    ],
  },
  {
    title: "a range of ports",
    steps: [
      {
        policies: [policy("x", "range", { podSelector: pod("a"), ingress: [{ ports: [{ port: 81, endPort: 90 }] }] })],
        tries: TCP_BOTH,
        reaches: ({ to, port }) => to !== "x/a" || port === 81,
      },
      {
        policies: [policy("x", "range", { podSelector: pod("a"), ingress: [{ ports: [{ port: 79, endPort: 81 }] }] })],
        tries: EVERYTHING,
        reaches: ({ to, protocol }) => to !== "x/a" || protocol === "TCP",
      },
    ],
  },
  {
    title: "stacked policies with overlapping selectors allow what any of them allows",
    steps: [
      {
        policies: [
          policy("x", "b", { podSelector: {}, ingress: [{ from: [{ podSelector: pod("b") }] }] }),
          policy("x", "y-to-a", { podSelector: pod("a"), ingress: [{ from: [{ namespaceSelector: ns("y") }] }] }),
        ],
        tries: TCP80,
        reaches: ({ from, to }) => of(to) !== "x" || from === "x/b" || (to === "x/a" && of(from) === "y"),
      },
    ],
  },
  {
    title: "an empty list of ingress rules allows nothing, and an empty rule everything",
    steps: [
      {
        policies: [policy("x", "none", { podSelector: pod("a"), ingress: [] })],
        tries: TCP80,
        reaches: ({ to }) => to !== "x/a",
      },
      {
        policies: [policy("x", "empty", { podSelector: pod("a"), ingress: [{ from: [], ports: [] }] })],
        tries: TCP80,
        reaches: everybody,
      },
    ],
  },
];

/** Those with address blocks. Every address of a pod is alone in its block. */
function blockScenarios(addressOf: AddressOf, everywhere: string, single: string): Scenario[] {
  const only = (name: PodName) => `${addressOf(name)}/${single}`;
  const egress = (cidr: string, except: readonly string[] = []): PolicySpec => ({
    podSelector: pod("a"),
    policyTypes: ["Egress"],
    egress: [{ to: [{ ipBlock: { cidr, ...(except.length > 0 && { except }) } }] }],
  });
  return [
    {
      title: "egress to an address block",
      steps: [
        {
          policies: [policy("x", "to-y-b", egress(only("y/b")))],
          tries: TCP80,
          reaches: ({ from, to }) => from !== "x/a" || to === "y/b",
        },
      ],
    },
    {
      title: "egress to an address block but for its exceptions",
      steps: [
        {
          policies: [policy("x", "but-y-b", egress(everywhere, [only("y/b")]))],
          tries: TCP80,
          reaches: ({ from, to }) => from !== "x/a" || to !== "y/b",
        },
      ],
    },
    {
      title: "an address that one block excepts and another has is allowed",
      steps: [
        {
          policies: [
            policy("x", "but-y-b", egress(everywhere, [only("y/b")])),
            policy("x", "to-y-b", egress(only("y/b"))),
          ],
          tries: TCP80,
          reaches: everybody,
        },
      ],
    },
    {
      title: "ingress from an address block",
      steps: [
        {
          policies: [
            policy("x", "from-z-c", {
              podSelector: pod("a"),
              ingress: [{ from: [{ ipBlock: { cidr: only("z/c") } }] }],
            }),
          ],
          tries: TCP80,
          reaches: ({ from, to }) => to !== "x/a" || from === "z/c",
        },
      ],
    },
  ];
}

/** All of them. @param addressOf of one family, as long as the scenarios last */
export function scenarios(addressOf: AddressOf): Scenario[] {
  const isV6 = addressOf("x/a").includes(":");
  return [...SCENARIOS, ...blockScenarios(addressOf, isV6 ? "::/0" : "0.0.0.0/0", isV6 ? "128" : "32")];
}

/** Every probe of a step. */
export function probesOf({ tries }: Step): Probe[] {
  return POD_NAMES.flatMap((from) =>
    POD_NAMES.filter((to) => to !== from).flatMap((to) =>
      tries.map(([protocol, port]) => ({ from, to, protocol, port })),
    ),
  );
}
