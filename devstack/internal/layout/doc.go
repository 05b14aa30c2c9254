// Package layout says where a one-machine stack keeps its things: the data folder, its ports, its
// passwords and the stack file by which other programs find it. It starts nothing and knows no server.
//
// A data folder holds
//
//	.refit-devstack   marks the folder as made by devstack; without it the folder is never removed
//	lock              held (flock) by the process that runs the stack, however that process ends
//	ports.json        the ports that were picked, so that they stay over restarts
//	secrets.json      random passwords and keys, mode 0600
//	stack.json        addresses and credentials, mode 0600; there while the stack is ready
//	postgres/         the cluster
//	s3/, s3-versions/ objects and their older versions
//	*.log             what the servers said
package layout
