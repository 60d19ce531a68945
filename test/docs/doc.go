// Package docs holds the documents to their word: the tests that they name
// exist, and their links lead somewhere.
package docs
