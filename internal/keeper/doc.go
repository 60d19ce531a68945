// Package keeper is the node: it opens tenants and timelines, joins each with
// its manager and the bodies of its tasks, and stops them in order.
//
// It alone knows everybody below it: the receiver's sink is a timeline's log,
// the answers that restore chooses by are made of a timeline's state. It knows
// nothing of HTTP; what it answers is domain types and the errors of package
// timeline.
//
// All methods of [Keeper] may be called at once.
package keeper
