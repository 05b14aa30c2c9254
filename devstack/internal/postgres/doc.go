// Package postgres keeps one private PostgreSQL cluster: it finds (or installs) the server's programs, makes the
// cluster, starts and stops its postmaster, and creates the roles and databases of a stack.
//
// The postmaster is a process of its own session and outlives the process that started it: after a kill the
// next start adopts it. A cluster whose processes were all killed is started again and recovers from its
// write-ahead log, as after a power cut; what was committed is there (unless Config.Fsync says otherwise and the
// machine itself went down).
//
// initdb and postgres refuse to run as root. For root they run as the user postgres, which the package brings;
// so every folder above the data must let that user pass.
//
// Not promised: upgrades between major versions, access from other machines, TLS. Other clusters on the
// machine are never touched.
package postgres
