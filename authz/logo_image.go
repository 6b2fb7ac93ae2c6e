package authz

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"strings"
)

// Bounds of a picture that somebody else made. What is decoded takes no more than 70 MB for a moment, a progressive JPEG
// with four colours.
const (
	maxLogoBytes  = 1 << 20
	maxLogoSide   = 4096
	maxLogoPixels = 4 << 20
	maxLogoScans  = 64  // a progressive JPEG has a dozen; each that takes a few bytes costs a walk over the whole picture
	logoSide      = 128 // of what is made of it
)

var (
	errLogoFormat = errors.New("not a PNG, JPEG or GIF")
	errLogoSize   = errors.New("a picture of too many pixels")
	errLogoScans  = errors.New("a JPEG of too many scans")
	errLogoBroken = errors.New("a picture that cannot be decoded")
)

// logoFormats are what a logo may be. SVG is none of them: it is a program. Nor is anything decided by what else in this
// process has registered itself with package image.
var logoFormats = []struct {
	begins string
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}{
	{"\x89PNG\r\n\x1a\n", png.DecodeConfig, png.Decode},
	{"\xff\xd8\xff", jpeg.DecodeConfig, jpeg.Decode},
	{"GIF8", gif.DecodeConfig, gif.Decode}, // its first picture
}

// shrinkLogo makes a PNG of at most logoSide pixels each way of a picture. It holds colours and nothing else of the
// original. Errors tell nothing of the original either.
func shrinkLogo(original []byte) ([]byte, error) {
	for _, f := range logoFormats {
		if !strings.HasPrefix(string(original[:min(len(original), 8)]), f.begins) {
			continue
		}
		config, err := f.config(bytes.NewReader(original))
		switch {
		case err != nil:
			return nil, errLogoBroken
		case config.Width > maxLogoSide || config.Height > maxLogoSide || config.Width*config.Height > maxLogoPixels:
			return nil, errLogoSize
		case f.begins[0] == '\xff' && bytes.Count(original, []byte("\xff\xda")) > maxLogoScans:
			return nil, errLogoScans
		}
		decoded, err := f.decode(bytes.NewReader(original))
		pixels, readable := decoded.(image.RGBA64Image)
		if err != nil || !readable || decoded.Bounds().Empty() {
			return nil, errLogoBroken
		}
		var small bytes.Buffer
		if err := png.Encode(&small, shrink(pixels)); err != nil {
			return nil, err
		}
		return small.Bytes(), nil
	}
	return nil, errLogoFormat
}

// shrink fits a picture into logoSide pixels each way, in its proportions. A smaller one keeps its size.
func shrink(from image.RGBA64Image) *image.NRGBA {
	width, height := from.Bounds().Dx(), from.Bounds().Dy()
	longest := max(width, height, logoSide)
	small := image.NewNRGBA(image.Rect(0, 0, max(1, width*logoSide/longest), max(1, height*logoSide/longest)))
	for y := range small.Rect.Dy() {
		for x := range small.Rect.Dx() {
			small.SetRGBA64(x, y, average(from, small.Rect.Size(), x, y))
		}
	}
	return small
}

// average is the colour of the part of a picture that the pixel x, y of a smaller one of that size covers. Colours count
// by area and, as they are multiplied by it, by opacity.
func average(from image.RGBA64Image, size image.Point, x, y int) color.RGBA64 {
	var r, g, b, a uint64
	bounds := from.Bounds()
	top, bottom := y*bounds.Dy(), (y+1)*bounds.Dy() // in units of which size.Y are a pixel of the picture
	left, right := x*bounds.Dx(), (x+1)*bounds.Dx()
	for row := top / size.Y; row*size.Y < bottom; row++ {
		high := min(bottom, (row+1)*size.Y) - max(top, row*size.Y)
		for column := left / size.X; column*size.X < right; column++ {
			wide := min(right, (column+1)*size.X) - max(left, column*size.X)
			c, area := from.RGBA64At(bounds.Min.X+column, bounds.Min.Y+row), uint64(wide*high)
			r, g, b, a = r+area*uint64(c.R), g+area*uint64(c.G), b+area*uint64(c.B), a+area*uint64(c.A)
		}
	}
	all := uint64(bounds.Dx() * bounds.Dy())
	return color.RGBA64{R: uint16(r / all), G: uint16(g / all), B: uint16(b / all), A: uint16(a / all)}
}
