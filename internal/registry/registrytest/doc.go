// Package registrytest gives tests a registry of their own on a running stack. Only tests use it.
package registrytest
