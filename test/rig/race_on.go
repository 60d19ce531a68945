//go:build race

package rig

// raceDetector says whether the tests were built with it.
const raceDetector = true
