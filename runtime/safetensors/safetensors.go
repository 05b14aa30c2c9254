package safetensors

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sort"
)

const (
	maxHeader = 16 << 20
	maxFile   = 4 << 30
	maxAxes   = 8
)

// ErrFormat is wrapped by every error that comes from the content of a file.
var ErrFormat = errors.New("not a valid safetensors file")

// Tensor is a dense row-major array. len(Data) is the product of Shape; an empty Shape is a scalar.
type Tensor struct {
	Shape []int
	Data  []float32
}

// File is what one safetensors file holds. Metadata may be nil.
type File struct {
	Tensors  map[string]Tensor
	Metadata map[string]string
}

type entry struct {
	DType   string    `json:"dtype"`
	Shape   []int     `json:"shape"`
	Offsets [2]uint64 `json:"data_offsets"`
}

// Write writes f with its tensors in the order of their names, so equal content gives equal bytes.
func Write(w io.Writer, f File) error {
	names := sortedNames(f.Tensors)
	header := make(map[string]any, len(names)+1)
	if len(f.Metadata) > 0 {
		header["__metadata__"] = f.Metadata
	}
	var at uint64
	for _, name := range names {
		t := f.Tensors[name]
		if size, err := elements(t.Shape); err != nil || size != uint64(len(t.Data)) {
			return fmt.Errorf("write tensor %q: shape %v does not hold %d values", name, t.Shape, len(t.Data))
		}
		end := at + 4*uint64(len(t.Data))
		header[name] = entry{DType: "F32", Shape: append([]int{}, t.Shape...), Offsets: [2]uint64{at, end}}
		at = end
	}
	encoded, err := json.Marshal(header)
	if err != nil {
		return fmt.Errorf("encode safetensors header: %w", err)
	}
	if pad := len(encoded) % 8; pad != 0 { // the format aligns data to 8 bytes with spaces
		encoded = append(encoded, bytes.Repeat([]byte{' '}, 8-pad)...)
	}
	out := bufio.NewWriterSize(w, 1<<20)
	var length [8]byte
	binary.LittleEndian.PutUint64(length[:], uint64(len(encoded)))
	out.Write(length[:])
	out.Write(encoded)
	var word [4]byte
	for _, name := range names {
		for _, v := range f.Tensors[name].Data {
			binary.LittleEndian.PutUint32(word[:], math.Float32bits(v))
			out.Write(word[:])
		}
	}
	if err := out.Flush(); err != nil { // bufio keeps the first error
		return fmt.Errorf("write safetensors: %w", err)
	}
	return nil
}

// Decode reads one whole file from memory.
func Decode(raw []byte) (File, error) {
	if len(raw) < 8 {
		return File{}, fmt.Errorf("%w: %d bytes", ErrFormat, len(raw))
	}
	length := binary.LittleEndian.Uint64(raw)
	if length > maxHeader || length > uint64(len(raw)-8) {
		return File{}, fmt.Errorf("%w: header of %d bytes in a file of %d", ErrFormat, length, len(raw))
	}
	var header map[string]json.RawMessage
	if err := json.Unmarshal(raw[8:8+length], &header); err != nil {
		return File{}, fmt.Errorf("%w: header: %w", ErrFormat, err)
	}
	data := raw[8+length:]
	f := File{Tensors: make(map[string]Tensor, len(header))}
	if meta, ok := header["__metadata__"]; ok {
		if err := json.Unmarshal(meta, &f.Metadata); err != nil {
			return File{}, fmt.Errorf("%w: metadata: %w", ErrFormat, err)
		}
		delete(header, "__metadata__")
	}
	entries := make(map[string]entry, len(header))
	for name, value := range header {
		var e entry
		if err := json.Unmarshal(value, &e); err != nil {
			return File{}, fmt.Errorf("%w: tensor %q: %w", ErrFormat, name, err)
		}
		entries[name] = e
	}
	names := sortedNames(entries)
	sort.SliceStable(names, func(i, j int) bool { return entries[names[i]].Offsets[0] < entries[names[j]].Offsets[0] })
	var at uint64
	for _, name := range names {
		e := entries[name]
		if e.Offsets[0] != at || e.Offsets[1] < at || e.Offsets[1] > uint64(len(data)) {
			return File{}, fmt.Errorf("%w: tensor %q lies at %v, expected to begin at %d", ErrFormat, name, e.Offsets, at)
		}
		t, err := e.decode(data[e.Offsets[0]:e.Offsets[1]])
		if err != nil {
			return File{}, fmt.Errorf("%w: tensor %q: %w", ErrFormat, name, err)
		}
		f.Tensors[name] = t
		at = e.Offsets[1]
	}
	if at != uint64(len(data)) {
		return File{}, fmt.Errorf("%w: %d bytes after the last tensor", ErrFormat, uint64(len(data))-at)
	}
	return f, nil
}

// ReadFile reads the file at path.
func ReadFile(path string) (File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return File{}, fmt.Errorf("read tensors: %w", err)
	}
	if info.Size() > maxFile {
		return File{}, fmt.Errorf("read tensors of %s: %w: %d bytes, at most %d", path, ErrFormat, info.Size(), int64(maxFile))
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return File{}, fmt.Errorf("read tensors: %w", err)
	}
	f, err := Decode(raw)
	if err != nil {
		return File{}, fmt.Errorf("read tensors of %s: %w", path, err)
	}
	return f, nil
}

func (e entry) decode(raw []byte) (Tensor, error) {
	size, err := elements(e.Shape)
	if err != nil {
		return Tensor{}, err
	}
	width := map[string]uint64{"F32": 4, "F16": 2, "BF16": 2}[e.DType]
	if width == 0 {
		return Tensor{}, fmt.Errorf("type %q is not supported", e.DType)
	}
	if size*width != uint64(len(raw)) {
		return Tensor{}, fmt.Errorf("shape %v of %s does not fill %d bytes", e.Shape, e.DType, len(raw))
	}
	t := Tensor{Shape: e.Shape, Data: make([]float32, size)}
	for i := range t.Data {
		switch e.DType {
		case "F32":
			t.Data[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		case "BF16":
			t.Data[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(raw[2*i:])) << 16)
		default:
			t.Data[i] = widenHalf(binary.LittleEndian.Uint16(raw[2*i:]))
		}
	}
	return t, nil
}

// widenHalf converts an IEEE 754 binary16 to float32, exactly.
func widenHalf(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h)&1023
	switch exponent {
	case 0:
		v := float32(fraction) / (1 << 24)
		if sign != 0 {
			v = -v
		}
		return v
	case 31:
		return math.Float32frombits(sign | 255<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}

func elements(shape []int) (uint64, error) {
	if len(shape) > maxAxes {
		return 0, fmt.Errorf("%d axes, at most %d", len(shape), maxAxes)
	}
	size := uint64(1)
	for _, n := range shape {
		if n < 0 || n > maxFile || size*uint64(n) > maxFile {
			return 0, fmt.Errorf("shape %v is out of bounds", shape)
		}
		size *= uint64(n)
	}
	return size, nil
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
