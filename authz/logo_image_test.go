package authz

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"testing"
)

// CheckLogo fails the test unless a picture is a small PNG with nothing in it but pixels.
func CheckLogo(t testing.TB, body []byte) {
	t.Helper()
	config, err := png.DecodeConfig(bytes.NewReader(body))
	if err != nil || config.Width < 1 || config.Height < 1 || config.Width > 128 || config.Height > 128 {
		t.Fatalf("%d × %d: %v", config.Width, config.Height, err)
	}
	rest := body[8:]
	for len(rest) >= 12 {
		length, kind := binary.BigEndian.Uint32(rest), string(rest[4:8])
		switch kind {
		case "IHDR", "PLTE", "tRNS", "IDAT", "IEND":
		default:
			t.Errorf("chunk %q", kind)
		}
		rest = rest[12+length:]
	}
	if len(rest) != 0 {
		t.Errorf("%d bytes after the picture", len(rest))
	}
}

func pngChunk(kind string, data []byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	out = append(append(out, kind...), data...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[4:]))
}

// BombPNG is a PNG that says of itself how large it is, of nothing.
func BombPNG(width, height uint32) []byte {
	header := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, width), height)
	all := append([]byte("\x89PNG\r\n\x1a\n"), pngChunk("IHDR", append(header, 8, 6, 0, 0, 0))...)
	return append(append(all, pngChunk("IDAT", []byte("\x78\x9c"))...), pngChunk("IEND", nil)...)
}

// ScansJPEG is a grey progressive JPEG that goes over its 64 × 64 pixels so many times and says nothing of them: 12 bytes
// each time, however large it is.
func ScansJPEG(scans int) []byte {
	all := append([]byte("\xff\xd8\xff\xdb\x00\x43\x00"), bytes.Repeat([]byte{1}, 64)...)
	all = append(all, "\xff\xc2\x00\x0b\x08\x00\x40\x00\x40\x01\x01\x11\x00"...)                                     // SOF2
	all = append(all, "\xff\xc4\x00\x14\x10\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xe0"...) // DHT: the bit 0 ends 2^14 blocks and more
	for range scans {
		all = append(all, "\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00\x00\x01"...)
	}
	return append(all, "\xff\xd9"...)
}

func pngOf(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestShrinkLogo_Refuses(t *testing.T) {
	t.Parallel()
	good := pngOf(t, image.NewNRGBA(image.Rect(0, 0, 3, 3)))
	for name, test := range map[string]struct {
		body []byte
		want error
	}{
		"too wide":                         {BombPNG(4097, 1), errLogoSize},
		"too high":                         {BombPNG(1, 4097), errLogoSize},
		"too many pixels":                  {BombPNG(2049, 2048), errLogoSize},
		"as many as may be, none there":    {BombPNG(2048, 2048), errLogoBroken},
		"more than an int32":               {BombPNG(1<<31-1, 1<<31-1), nil},
		"no width":                         {BombPNG(0, 9), errLogoBroken},
		"a JPEG of too many scans":         {ScansJPEG(65), errLogoScans},
		"a JPEG that breaks off":           {ScansJPEG(3)[:100], errLogoBroken},
		"broken off":                       {good[:len(good)-20], errLogoBroken},
		"a beginning":                      {good[:8], errLogoBroken},
		"less than that":                   {good[:7], errLogoFormat},
		"nothing":                          {nil, errLogoFormat},
		"an empty GIF":                     {[]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"), errLogoBroken},
		"a GIF whose picture has no width": {[]byte("GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x00\x00\x01\x00\x00\x02\x01\x2c\x00;"), errLogoBroken},
		"WebP":                             {[]byte("RIFF\x24\x00\x00\x00WEBPVP8 "), errLogoFormat},
	} {
		made, err := shrinkLogo(test.body)
		if err == nil || made != nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: %d bytes, %v", name, len(made), err)
		}
	}
}

// Whatever else a file holds stays behind; colours are those of the parts that can be seen.
func TestShrinkLogo_KeepsColoursAlone(t *testing.T) {
	t.Parallel()
	from := image.NewNRGBA(image.Rect(0, 0, 300, 600))
	for y := range 600 {
		for x := range 300 {
			switch {
			case y < 300 && (x+y)%2 == 0: // what shines through must not darken what does not
				from.SetNRGBA(x, y, color.NRGBA{R: 0, G: 0, B: 0, A: 0})
			case y < 300:
				from.SetNRGBA(x, y, color.NRGBA{R: 250, G: 10, B: 10, A: 255})
			default:
				from.SetNRGBA(x, y, color.NRGBA{R: uint8(x % 2 * 200), G: 100, B: 50, A: 255})
			}
		}
	}
	original := pngOf(t, from)
	secret := []byte("GPS 1.2921 S")
	end := len(original) - 12
	original = append(append(append([]byte{}, original[:end]...), pngChunk("tEXt", append([]byte("Comment\x00"), secret...))...), original[end:]...)
	made, err := shrinkLogo(append(original, "<script>attack()</script>"...))
	if err != nil {
		t.Fatal(err)
	}
	CheckLogo(t, made)
	if bytes.Contains(made, secret) || bytes.Contains(made, []byte("script")) {
		t.Error("something of the original is left")
	}
	small, _ := png.Decode(bytes.NewReader(made))
	if small.Bounds().Size() != image.Pt(64, 128) {
		t.Fatalf("%v", small.Bounds())
	}
	near := func(x, y int, want color.NRGBA) {
		t.Helper()
		got := color.NRGBAModel.Convert(small.At(x, y)).(color.NRGBA)
		for _, d := range [][2]uint8{{got.R, want.R}, {got.G, want.G}, {got.B, want.B}, {got.A, want.A}} {
			if int(d[0])-int(d[1]) > 20 || int(d[1])-int(d[0]) > 20 {
				t.Errorf("%d, %d: %v, want about %v", x, y, got, want)
				return
			}
		}
	}
	near(32, 20, color.NRGBA{R: 250, G: 10, B: 10, A: 128})
	near(32, 100, color.NRGBA{R: 100, G: 100, B: 50, A: 255})
	near(63, 127, color.NRGBA{R: 100, G: 100, B: 50, A: 255})
}

func FuzzShrinkLogo(f *testing.F) {
	img := image.NewPaletted(image.Rect(0, 0, 200, 9), color.Palette{color.Transparent, color.White, color.Black})
	img.Pix[7] = 2
	f.Add(pngOf(f, img))
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.Clone(b.Bytes()))
	b.Reset()
	if err := gif.Encode(&b, img, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(BombPNG(60000, 60000))
	f.Fuzz(func(t *testing.T, original []byte) {
		if len(original) > maxLogoBytes {
			return
		}
		made, err := shrinkLogo(original)
		switch {
		case err == nil:
			CheckLogo(t, made)
			if again, err := shrinkLogo(made); err != nil || len(again) == 0 {
				t.Errorf("what was made cannot be made again: %v", err)
			}
		case made != nil:
			t.Error("an error and a picture")
		}
	})
}
