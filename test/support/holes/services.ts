// What flows to Services rest on, and what their clients are told.
import { type Hole, inPrograms, inSources } from './fault.ts';

const CONFORMANCE = 'src/datapath/ebpf/conformance.test.ts';
const REFUSAL = 'src/datapath/ebpf/refusal.test.ts';
const HOST = 'src/datapath/ebpf/host-hooks.test.ts';
const OUTSIDE = 'src/datapath/ebpf/outside.test.ts';
const TAKEOVER = 'src/datapath/ebpf/service-takeover.test.ts';

export const SERVICES: readonly Hole[] = [
  {
    rule: 'Who is no client of a Service is refused',
    file: CONFORMANCE,
    test: 'a Service for some clients alone is for those in its blocks, and refuses their neighbours',
    faults: [inPrograms('service.h', '!size || !may_ask(c, service)', '!size')],
  },
  {
    rule: 'also who was one before, and asks from the same port',
    file: CONFORMANCE,
    test: 'a connection of a client that is none any more goes on, and begins no more; datagrams end',
    faults: [
      inSources(
        'datapath/ebpf/encode/services.ts',
        'before?.clients === clientsText(value.clients) ?',
        'before !== undefined ?',
      ),
    ],
  },
  {
    rule: 'A Service whose blocks hold nobody is not for everybody',
    file: CONFORMANCE,
    test: 'a Service for some clients alone is for those in its blocks, and refuses their neighbours',
    faults: [inSources('datapath/ebpf/encode/clients.ts', '[NOWHERE, NOWHERE]', '[]')],
  },
  {
    rule: 'The node’s own sockets are refused where the ranges leave the node out',
    file: HOST,
    test: 'learn it, too, where a balancer',
    faults: [inPrograms('host.bpf.c', ' || (service->clients & CLIENTS_NOT_NODE)', '')],
  },
  {
    rule: 'Who asks a Service that nobody serves is told at once',
    file: REFUSAL,
    test: 'and refuses once nobody does',
    faults: [inPrograms('moat.bpf.c', 'refuse(skb, c, place != 0)', 'TCX_DROP')],
  },
  {
    rule: 'Sums of what tells them are right, also where a device makes them',
    file: REFUSAL,
    test: 'and refuses once nobody does',
    faults: [inPrograms('refuse.h', 'add_sum(0, c->bytes, V4_HEADER)', '0')],
  },
  {
    rule: 'No interface is told more often than it has tokens for',
    file: REFUSAL,
    test: 'no more often in a second than an interface has tokens for',
    faults: [inPrograms('refuse.h', '!take_token(c, share_of(c->ifindex), BUDGET_REFUSALS, refusal_rate)', '0')],
  },
  {
    rule: 'A backend that spoke first keeps no client from its Service',
    file: CONFORMANCE,
    test: 'datagrams go to a backend that spoke first, where policy lets them, and what it says is the Service’s then',
    faults: [inPrograms('service.h', 'return SPARE;', 'return TAKEN;')],
  },
  {
    rule: 'Nobody leads a flow to a Service away from its backend by what says to come from the Service',
    file: CONFORMANCE,
    test: 'what comes from the Service’s address itself leads no flow away from its backend',
    faults: [inPrograms('hit.h', 'goes_to_service(state, &g->key, to))', '0)')],
  },
  {
    rule: 'An address that is a pod’s of the node by now is no Service’s, in an open flow either',
    file: CONFORMANCE,
    test: 'what a pod sends to a Service’s address that is a pod’s of this node from now on goes to that pod',
    faults: [inPrograms('hit.h', ' && !bpf_map_lookup_elem(&endpoint_map, &address)', '')],
  },
  {
    rule: 'Who left is answered in nobody’s name',
    file: CONFORMANCE,
    test: 'so it is where policy makes no difference between here and there',
    faults: [inPrograms('flow.h', '(c->destination.ifindex || !c->entry.leg[LEG_EGRESS].generation)', '1')],
  },
  {
    rule: 'A moment in which a pod is not known ends none of its connections',
    file: 'src/datapath/ebpf/service.test.ts',
    test: 'a connection outlives a moment in which its client’s address leads to no record, and policy comes',
    faults: [
      inPrograms('legs.h', 'c->entry.slot[leg] = 0;', 'c->entry.slot[leg] = 0;\n\t\tc->entry.leg[leg].generation = 0;'),
    ],
  },
  {
    rule: 'A backend’s own question is no answer to its client',
    file: CONFORMANCE,
    test: 'a backend that asks the Service of its client, from where it serves it, begins no answer',
    faults: [inPrograms('translation.h', 'flow->initiator == initiator', 'initiator < 2')],
  },
  {
    rule: 'A Service’s new record is led to once it is whole',
    file: 'test/half-served.ts',
    test: 'sends nobody elsewhere, and ends nothing: a backend for another one',
    faults: [
      inSources(
        'datapath/ebpf/encode/services.ts',
        "    sink.record('service_places', first, placesBytes(",
        "    sink.put('service_map', serviceKeyBytes(value), taggedBytes(slot, serviceTag(value)));\n    sink.state('marked', 1n);\n    sink.record('service_places', first, placesBytes(",
      ),
    ],
  },
  {
    rule: 'What is sent on is judged as what it becomes, whatever is cut off it or changed',
    file: 'test/packet-sweep.test.ts',
    test: 'no cut or changed packet to a Service, or about what it answered, reaches a backend that nobody may reach',
    faults: [inPrograms('service.h', 'reason = find_endpoint(c, &p->destination, &c->destination);', 'reason = 0;')],
  },
  {
    rule: 'Nothing is sent on to where no packet may go',
    file: CONFORMANCE,
    test: 'no backend is where no packet may go',
    faults: [inPrograms('service.h', 'check_destination(&p->destination)', '0')],
  },
  {
    rule: 'A flow that stands goes by the tables of the process that is there',
    file: TAKEOVER,
    test: 'datagrams of a flow that stands stay with their backend, also when others come after the next start',
    faults: [inPrograms('flow.h', 'return reason || !c->chosen ? reason : write_translation(c);', 'return reason;')],
  },
  {
    rule: 'A Service that keeps its clients remembers them',
    file: CONFORMANCE,
    test: 'it stays while others come and go, and goes elsewhere once its backend has gone',
    faults: [inPrograms('service.h', 'if (service->affinity && recall_backend(c, service->affinity))', 'if (0)')],
  },
  {
    rule: 'and no longer than it says',
    file: CONFORMANCE,
    test: 'so long after its last connection it is kept no more, and until then it is',
    faults: [inPrograms('affinity.h', '(__s64)(seconds * SECOND)', '(__s64)(seconds * SECOND) + (1ll << 61)')],
  },
  {
    rule: 'also over the next start of an agent',
    file: TAKEOVER,
    test: 'clients that a Service keeps stay with their backend',
    faults: [inPrograms('service.h', 'hash = c->affinity.hash;', '')],
  },
  {
    rule: 'Services that a start never finished lead to no record',
    file: TAKEOVER,
    test: 'what a start that never ended left of a Service leads nobody to another one',
    faults: [
      inSources(
        'datapath/ebpf/takeover.ts',
        'each.bank === serviceBank)',
        'each.bank === serviceBank && maps === null)',
      ),
    ],
  },
  {
    rule: 'and those that it had turned to its own tables before it died serve on',
    file: TAKEOVER,
    test: 'Services that a start turned before it died serve on at the next one, until that says more',
    faults: [inSources('datapath/ebpf/takeover.ts', 'serviceBank: freeBank(services)', 'serviceBank: bank')],
  },
  {
    rule: 'All turn to a process one right after the other, so that hardly one dies in between',
    file: 'src/datapath/ebpf/encode/services.test.ts',
    test: 'Services turn one right after the other, before flows there are judged again and before what they were ends',
    faults: [
      inSources(
        'datapath/ebpf/encode/services.ts',
        'this.#turning.set(key, known);',
        'this.#turning.set(key, known);\n    this.turn();',
      ),
    ],
  },
  {
    rule: 'Connections to Services are carried over with the way to their backends',
    file: TAKEOVER,
    test: 'connections go on, those that speak meanwhile and those that do not; datagrams too',
    faults: [inPrograms('carry.h', 'if ((carried->entry.flags & ENTRY_SERVICE) &&', 'if (0 &&')],
  },
  {
    rule: 'also those whose Service is gone by then',
    file: TAKEOVER,
    test: 'connections go on whose Service is gone by then',
    faults: [inPrograms('carry.h', 'mark_service(&service);', '(void)service;')],
  },
  {
    rule: 'Flows to a Service that found no room before are seen once it has some',
    file: 'src/datapath/ebpf/room.test.ts',
    test: 'a Service that found no room has the datagrams of flows to its address once it finds some',
    faults: [
      inSources(
        'datapath/ebpf/encode/encoder.ts',
        'if (service !== null) this.#judgePeerAgain',
        'if (false) this.#judgePeerAgain',
      ),
    ],
  },
  {
    rule: 'Sockets of other network namespaces than the node’s own are sent nowhere else',
    file: HOST,
    test: 'are the node’s alone: a socket of another namespace means what it says',
    faults: [
      inPrograms('host.bpf.c', 'bpf_get_netns_cookie(ctx) == host_netns', 'bpf_get_netns_cookie(ctx) && host_netns'),
    ],
  },
  {
    rule: 'An address of a local endpoint is no Service’s to them',
    file: HOST,
    test: 'mean a pod where they say a pod’s address, whatever a Service says',
    faults: [inPrograms('host.bpf.c', ' || is_endpoint(&key.address, changes)', '')],
  },
  {
    rule: 'They are refused where tables contradict themselves, or nobody vouches for them',
    file: HOST,
    test: 'are refused while the tables can’t be told, but for the time of a bypass',
    faults: [inPrograms('host.bpf.c', '!service || (is_closed()', '!service || (0')],
  },
  {
    rule: 'They are not sent to the machine’s own loopback',
    file: HOST,
    test: 'are not sent to the machine’s own loopback, whoever is said to serve',
    faults: [inPrograms('host.bpf.c', 'if (is_nobody(&meant.backend.address))', 'if (0)')],
  },
  {
    rule: 'They hear the Service that they meant',
    file: HOST,
    test: 'hear the Service by a socket that is not connected, of each of several',
    faults: [inPrograms('host.bpf.c', 'if (recall_service(ctx, &meant))', 'if (0)')],
  },
  {
    rule: 'Their hooks outlive the agent that puts them there',
    file: HOST,
    test: 'go on while nobody runs, and what their sockets mean is known to the next process',
    faults: [
      inSources('datapath/ebpf/host-hooks.ts', '    pinObject(link, linkPath(this.#setup.directory, place));\n', ''),
    ],
  },
  {
    rule: 'The node resets no connection to a node port',
    file: OUTSIDE,
    test: 'the node resets nothing that it serves and can’t take, be it open or about to',
    faults: [inPrograms('outside.h', 'if (!would_be_reset(c))', 'if (!would_be_reset(c) || c->uplink)')],
  },
  {
    rule: 'Nobody is served at a node port as the node itself',
    file: 'src/datapath/ebpf/outside-hostile.test.ts',
    test: 'who says to be a pod, the node, or nobody at all enters nowhere',
    faults: [
      inPrograms('outside.h', 'is_nobody(&p->source) || is_node_address(&p->source) ||', 'is_nobody(&p->source) ||'),
      inPrograms('outside.h', '!is_symmetric(skb, c, c->uplink)', '0'),
    ],
  },
  {
    rule: 'Who asks a node port from outside is judged as who it is',
    file: OUTSIDE,
    test: 'that policy denies for its own client is dropped and named at the pod',
    faults: [inPrograms('outside.h', 'return judge_packet(skb, c);', 'return REASON_NONE;')],
  },
  {
    rule: 'and once it is cut stays cut, both ways',
    file: OUTSIDE,
    test: 'a connection that is denied from now on is cut both ways',
    faults: [inPrograms('flow.h', 'if (!c->uplink || c->outside)', 'if (!c->uplink)')],
  },
  {
    rule: 'A Service that keeps its clients remembers also a backend that spoke first',
    file: CONFORMANCE,
    test: 'a client stays with a backend that spoke first, too',
    faults: [
      inPrograms(
        'service.h',
        'return REASON_NO_BACKEND;\n\treturn service->affinity ? keep_backend(c, hash) : REASON_NONE;',
        'return REASON_NO_BACKEND;\n\treturn REASON_NONE;',
      ),
    ],
  },
  {
    rule: 'and none that SCTP can’t go to',
    file: CONFORMANCE,
    test: 'a backend that SCTP can’t go to keeps nobody',
    faults: [
      inPrograms(
        'service.h',
        'if (!can_go_there(c))\n\t\treturn REASON_NO_BACKEND;\n\twrite_affinity',
        'write_affinity',
      ),
    ],
  },
  {
    rule: 'A flow that is over keeps nobody with its backend, though it was not swept yet',
    file: CONFORMANCE,
    test: 'a flow that is over keeps nobody with its backend, though it was not swept yet',
    faults: [inPrograms('service.h', 'if (found && is_over(c))', 'if (0)')],
  },
  {
    rule: 'Nobody diverts a connection from outside by beginning it anew in its client’s name',
    file: OUTSIDE,
    test: 'a connection stays with its pod, whoever begins it anew',
    faults: [inPrograms('service.h', '!stays_outside(c)', '1')],
  },
  {
    rule: 'From outside nobody is a pod of this node, nor the node',
    file: OUTSIDE,
    test: 'a pod in the name of the Service, or the node',
    faults: [
      inPrograms('outside.h', 'is_nobody(&p->source) || is_node_address(&p->source) ||', '0 ||'),
      inPrograms('outside.h', 'find_endpoint(c, &p->source, &c->source) || c->source.ifindex)', '0)'),
      inPrograms('outside.h', '!is_symmetric(skb, c, c->uplink))', '0)'),
    ],
  },
  {
    rule: 'No flow from outside begins whose answers would leave by another way',
    file: OUTSIDE,
    test: 'whose answers would leave by another way reaches no pod',
    faults: [inPrograms('outside.h', '!is_symmetric(skb, c, c->uplink))', '0)')],
  },
  {
    rule: 'Answers to who is outside leave as the Service’s, also those of open flows',
    file: OUTSIDE,
    test: 'goes to a pod and back',
    faults: [inPrograms('hit.h', 'if (answers && hook == HOOK_FROM_POD && !destination.record)', 'if (0)')],
  },
  {
    rule: 'and ICMP errors of the pod',
    file: OUTSIDE,
    test: 'an ICMP error of its pod speaks of the Service',
    faults: [inPrograms('deliver.h', 'if (c->hook == HOOK_FROM_POD && c->back && !c->destination.ifindex)', 'if (0)')],
  },
  {
    rule: 'A Service of the node’s pods alone is none to who is outside',
    file: OUTSIDE,
    test: 'it is one thing to pods of the node, and another one to whoever is outside',
    faults: [inPrograms('service.h', 'key->service.scope = c->outside;', '')],
  },
  {
    rule: 'What nobody serves here is nobody else’s to take',
    file: 'src/service/tables.test.ts',
    test: 'outside, too, what an author writes takes no node port of a Service that is not served here',
    faults: [
      inSources(
        'service/tables.ts',
        'return left === undefined && (scope === undefined',
        'return (scope === undefined',
      ),
    ],
  },
];
