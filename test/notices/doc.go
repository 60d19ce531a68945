// Package notices asks of each call that tells somebody of a change what would
// miss it: one after the other is left out, and the tests of the packages that
// should notice are run. 'make notices' does so; it takes the better part of an
// hour.
package notices
