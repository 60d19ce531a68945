// Package broker tells the nodes that keep the same timelines about each other, over NATS.
//
// Once a second, and at once when something begins or ends, a node sends the status of its active timelines to each
// node that keeps the same ones, many in one message. What it hears is kept as the last word of each peer about each
// timeline, with its age.
//
// Nothing here is durable, and nothing may depend on a message having arrived: status is sent again and again, so it
// goes over NATS's core, which keeps nothing. No acknowledgement to a source, no removal of WAL and no deletion waits
// for a message or follows from one. While NATS is away a node goes on; what needs the peers' word stays where it was,
// and [Broker.Stats] and the age of each [Peer] say so.
//
// What is promised about what was heard:
//
//   - A message that comes late, twice or in another order changes nothing that a newer one has said: each message has
//     its sender's start and a number. A position of a peer never goes back on its TLI while the peer's process lives;
//     a restarted peer is believed anew.
//   - A message that is malformed, too large, of another version or in another node's name is counted and dropped, and
//     disturbs no other. What is stored is bounded: only timelines that this node keeps, and a bounded number of nodes.
//   - A node needs no echo of its own messages. Ages are measured by this node's monotonic clock: no clock is compared
//     with another's.
//
// Who is trusted: a peer's word moves the commit LSN, so whoever may publish on these subjects must be a node. An
// external NATS gives each installation an account of its own, and may allow a node to publish only what ends in its
// id ([Subject]). The embedded server has no client but its own process, and listens to other nodes' servers only if it
// is told to; it wants their certificate where TLS is configured, and the user and password of the routes where they
// have one.
//
// [Broker.Run] is called once, and again after it failed; all other methods may be called at any time, from any goroutine, and wait for nothing.
package broker
