package invite

// Decode returns what a text holds, without its checksum.
func Decode(text string) ([]byte, error) {
	b, err := encoding.DecodeString(text[len(family+version):])
	if err != nil {
		return nil, err
	}
	return b[:len(b)-sumSize], nil
}

// Encode makes the text that holds b.
func Encode(b []byte) string {
	return family + version + encoding.EncodeToString(append(b[:len(b):len(b)], checksum(b)...))
}
