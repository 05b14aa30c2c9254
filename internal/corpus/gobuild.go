package corpus

import (
	"bufio"
	"bytes"
	"go/build/constraint"
	"slices"
	"strings"
)

// Documentation is read for one platform, the same on every machine, so that a corpus does not depend on where
// it was read. go/build would ask the machine and may run the go command; here only text is looked at.
const (
	goos   = "linux"
	goarch = "amd64"
)

// Suffixes that bind a file to a platform (go help buildconstraint).
const (
	knownOS = " aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris " +
		"wasip1 windows zos "
	knownArch = " 386 amd64 amd64p32 arm armbe arm64 arm64be loong64 mips mipsle mips64 mips64le mips64p32 " +
		"mips64p32le ppc ppc64 ppc64le riscv riscv64 s390 s390x sparc sparc64 wasm "
)

// builds says whether a file belongs to the package on that platform, by its name and its go:build line.
func builds(name string, source []byte) bool {
	parts := strings.Split(strings.TrimSuffix(name, ".go"), "_")[1:]
	for _, part := range parts[max(0, len(parts)-2):] {
		if part != goos && strings.Contains(knownOS, " "+part+" ") || part != goarch && strings.Contains(knownArch, " "+part+" ") {
			return false
		}
	}
	lines := bufio.NewScanner(bytes.NewReader(source))
	lines.Buffer(nil, maxFile)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "package ") {
			break // constraints stand above the package clause
		}
		if !constraint.IsGoBuild(line) {
			continue
		}
		expr, err := constraint.Parse(line)
		return err == nil && expr.Eval(satisfied)
	}
	return true
}

func satisfied(tag string) bool {
	return slices.Contains([]string{goos, goarch, "unix", "gc"}, tag) || strings.HasPrefix(tag, "go1.")
}
