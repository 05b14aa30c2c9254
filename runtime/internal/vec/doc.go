// Package vec multiplies float32 matrices on one core. Built with GOEXPERIMENT=simd on amd64 it uses the processor's
// vector unit where that has AVX2 and FMA, else plain Go.
//
// Each product is added up in an order that depends on its length alone, so how many rows or columns are asked for
// at once changes no bit of it. Between the vector unit and plain Go the last bits differ.
package vec
