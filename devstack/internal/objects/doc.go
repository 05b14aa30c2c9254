// Package objects serves S3 from a folder, in process (versitygw, plain HTTP on the loopback address, one account).
// Objects are files below the folder, older versions below a second one; both outlive a killed process. The
// gateway does not wait for the disk, so what was written in the last seconds may be lost when the machine itself
// goes down. One server a process; it changes the process's working directory.
package objects
