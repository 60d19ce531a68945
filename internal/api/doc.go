// Package api serves a node over HTTP: the REST interface, health, metrics, WAL files, and the console
// for people. It decides nothing about timelines; what it needs of the node it declares as [Node].
//
// Every error is an RFC 9457 problem whose type is one of [Kind]. No answer holds a password: sources
// are masked on their way out, and what a request contained is never echoed.
//
// A client that does not read its answer is cut off, after a stall and at once when the timeline or the
// node shuts down: it holds nothing up. [Server] may be used by many goroutines at once.
package api
