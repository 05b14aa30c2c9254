package safetensors

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func sample() File {
	return File{
		Tensors: map[string]Tensor{
			"b.weight": {Shape: []int{2, 3}, Data: []float32{1, -2, 3.5, 0, float32(math.Inf(1)), 6}},
			"a.bias":   {Shape: []int{2}, Data: []float32{float32(math.SmallestNonzeroFloat32), 7}},
			"scalar":   {Shape: []int{}, Data: []float32{4}},
			"none":     {Shape: []int{0, 5}, Data: []float32{}},
		},
		Metadata: map[string]string{"format": "pt"},
	}
}

func encoded(t testing.TB, f File) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, Write(&out, f))
	return out.Bytes()
}

// with is a file with the given header, as it stands, before data.
func with(header string, data ...byte) []byte {
	raw := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(raw, header...), data...)
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	raw := encoded(t, sample())
	require.Equal(t, raw, encoded(t, sample()), "equal content gives equal bytes")
	require.Zero(t, binary.LittleEndian.Uint64(raw)%8, "data is aligned")
	got, err := Decode(raw)
	require.NoError(t, err)
	require.Equal(t, sample(), got)

	path := filepath.Join(t.TempDir(), "x.safetensors")
	require.NoError(t, os.WriteFile(path, raw, 0o600))
	got, err = ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, sample(), got)
	_, err = ReadFile(path + ".not")
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A file of the format's own Python library: zeros of shape [2] named "w".
func TestReadsTheReferenceForm(t *testing.T) {
	t.Parallel()
	f, err := Decode(with(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}          `, 0, 0, 0, 0, 0, 0, 128, 63))
	require.NoError(t, err)
	require.Equal(t, Tensor{Shape: []int{2}, Data: []float32{0, 1}}, f.Tensors["w"])
	require.Nil(t, f.Metadata)
}

func TestHalfPrecisionIsWidened(t *testing.T) {
	t.Parallel()
	for bits, want := range map[uint16]float32{
		0x0000: 0, 0x3c00: 1, 0xc000: -2, 0x7bff: 65504, 0x0001: 1.0 / (1 << 24), 0x8001: -1.0 / (1 << 24),
		0x0400: 1.0 / (1 << 14), 0x7c00: float32(math.Inf(1)), 0xfc00: float32(math.Inf(-1)), 0x3555: 0.33325195,
	} {
		f, err := Decode(with(`{"w":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}`, byte(bits), byte(bits>>8)))
		require.NoError(t, err)
		require.Equal(t, want, f.Tensors["w"].Data[0], "%#04x", bits)
	}
	f, err := Decode(with(`{"w":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}`, 0x01, 0x7e))
	require.NoError(t, err)
	require.True(t, math.IsNaN(float64(f.Tensors["w"].Data[0])))
	f, err = Decode(with(`{"w":{"dtype":"BF16","shape":[],"data_offsets":[0,2]}}`, 0xc0, 0xbf))
	require.NoError(t, err)
	require.Equal(t, []float32{-1.5}, f.Tensors["w"].Data)
}

func TestEveryCutAndEveryPaddedFileIsRefused(t *testing.T) {
	t.Parallel()
	raw := encoded(t, sample())
	for n := range raw {
		_, err := Decode(raw[:n])
		require.ErrorIs(t, err, ErrFormat, "cut to %d bytes", n)
	}
	_, err := Decode(append(bytes.Clone(raw), 0))
	require.ErrorIs(t, err, ErrFormat)
}

func TestWhatIsNoFileIsRefused(t *testing.T) {
	t.Parallel()
	four := []byte{0, 0, 0, 0}
	for name, raw := range map[string][]byte{
		"header too long":    binary.LittleEndian.AppendUint64(nil, maxHeader+1),
		"huge header length": binary.LittleEndian.AppendUint64(nil, math.MaxUint64),
		"no JSON":            with(`{"w"`),
		"a list":             with(`[]`),
		"unknown type":       with(`{"w":{"dtype":"F64","shape":[],"data_offsets":[0,4]}}`, four...),
		"shape too small":    with(`{"w":{"dtype":"F32","shape":[],"data_offsets":[0,8]}}`, append(four, four...)...),
		"shape too large":    with(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, four...),
		"negative dimension": with(`{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`, four...),
		"overflowing shape":  with(`{"w":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,4]}}`, four...),
		"too many axes":      with(`{"w":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}`, four...),
		"gap":                with(`{"w":{"dtype":"F32","shape":[],"data_offsets":[4,8]}}`, append(four, four...)...),
		"overlap": with(`{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}`,
			append(four, four...)...),
		"backwards":       with(`{"w":{"dtype":"F32","shape":[0],"data_offsets":[4,0]}}`, four...),
		"beyond the end":  with(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, four...),
		"broken metadata": with(`{"__metadata__":{"a":1}}`),
	} {
		_, err := Decode(raw)
		require.ErrorIs(t, err, ErrFormat, name)
	}
}

func TestWriteRefusesAShapeThatDoesNotHoldTheData(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := Write(&out, File{Tensors: map[string]Tensor{"w": {Shape: []int{3}, Data: []float32{1, 2}}}})
	require.ErrorContains(t, err, `"w"`)
	require.Zero(t, out.Len())
}

func TestWriteReportsAFullDisk(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	defer full.Close()
	require.Error(t, Write(full, sample()))
}

func FuzzDecode(f *testing.F) {
	f.Add(encoded(f, sample()))
	f.Add(with(`{}`))
	f.Add(with(strings.Repeat(" ", 8)))
	f.Add(with(`{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}`, 1, 2, 3, 4))
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := Decode(raw)
		if err != nil {
			require.ErrorIs(t, err, ErrFormat)
			return
		}
		again, err := Decode(encoded(t, file))
		require.NoError(t, err)
		require.Equal(t, len(file.Tensors), len(again.Tensors))
		for name, tensor := range file.Tensors {
			require.Equal(t, len(tensor.Data), len(again.Tensors[name].Data))
			for i, v := range tensor.Data { // by bits, because a NaN may be among them
				require.Equal(t, math.Float32bits(v), math.Float32bits(again.Tensors[name].Data[i]))
			}
		}
	})
}
