package capture

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// A frame is magic, length of the payload and CRC-32C of length and payload, then the payload; numbers are
// little-endian. The magic is what a reader looks for behind a damaged frame.
const (
	frameHeader = 12
	maxPayload  = 4 << 20 // bytes; a larger record is dropped when it is written
)

var (
	magic      = []byte{0xf7, 'R', 'f', 0xd1}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func appendFrame(to, payload []byte) []byte {
	at := len(to)
	to = append(beginFrame(to), payload...)
	endFrame(to[at:])
	return to
}

// beginFrame adds a frame's head, which endFrame completes.
func beginFrame(to []byte) []byte {
	return append(append(to, magic...), make([]byte, frameHeader-len(magic))...)
}

// endFrame fills in the head of a frame whose payload is there.
func endFrame(frame []byte) {
	binary.LittleEndian.PutUint32(frame[4:8], uint32(len(frame)-frameHeader))
	binary.LittleEndian.PutUint32(frame[8:12], checksum(frame[4:8], frame[frameHeader:]))
}

func checksum(length, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(length, castagnoli), castagnoli, payload)
}

// nextFrame finds the first whole frame in b. It gives the payload, the bytes up to the frame's end, and how
// many bytes before it were skipped as damaged. Without a whole frame payload is nil and end is 0.
func nextFrame(b []byte) (payload []byte, end, skipped int) {
	for at := 0; ; at++ {
		found := bytes.Index(b[at:], magic)
		if found < 0 {
			return nil, 0, 0
		}
		at += found
		rest := b[at:]
		if len(rest) < frameHeader {
			return nil, 0, 0
		}
		length := int(binary.LittleEndian.Uint32(rest[4:8]))
		if length > maxPayload || length > len(rest)-frameHeader {
			continue
		}
		body := rest[frameHeader : frameHeader+length]
		if binary.LittleEndian.Uint32(rest[8:12]) == checksum(rest[4:8], body) {
			return body, at + frameHeader + length, at
		}
	}
}

// wholeFrames gives the length of b up to the end of its last whole frame.
func wholeFrames(b []byte) int {
	whole := 0
	for {
		_, end, _ := nextFrame(b[whole:])
		if end == 0 {
			return whole
		}
		whole += end
	}
}
