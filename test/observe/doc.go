// Package observe runs Sluice as its operators see it: three nodes, sources under load, and before them a real Prometheus with
// the rules that are shipped, a real Alertmanager and a real Jaeger. Each fault has to be found by its alert, within its time,
// naming what is ill and nothing else, and the alert has to end with the fault.
//
// 'make observe' runs all of it and shows where to look; 'make test' has what takes seconds. The nodes are built with the tag
// faults, because most of the faults are such as a right program does not have.
package observe
