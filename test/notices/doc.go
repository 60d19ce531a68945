// Package notices asks of each statement that tells somebody of a change what
// would miss it: one after the other is left out, and the tests that come by it are
// run until one fails. 'make notices' does so; it takes a quarter of an hour.
package notices
