// Package bench measures the node beside what a user would run instead, in one
// run and interleaved, because machines are shared and noisy: what counts is the
// ratio. It measures only when it is asked to:
//
//	go test ./test/bench -v -timeout 0 -compare drain,tps,idle,several,upload,restore,telemetry,broker
package bench
