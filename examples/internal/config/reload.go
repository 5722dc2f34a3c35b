package config

import "slices"

// Again binds another struct of the same type, with the defaults, to the flags that were given: for who reads the file
// once more, while the old settings are in use. Load it: a file that was there has to be there still, and something in it,
// for with it would go whatever it forbids.
func (c *Settings) Again(settings any) (*Settings, error) {
	other, err := New("", settings)
	if err != nil {
		return nil, err
	}
	other.prefix, other.again = c.prefix, c.found
	for _, l := range c.leaves {
		if twin := other.byPath[l.path]; twin != nil {
			twin.given = l.given
		}
	}
	return other, nil
}

// Changed lists the settings whose values are not those of other.
func (c *Settings) Changed(other *Settings) (paths []string) {
	for _, l := range c.leaves {
		if twin := other.byPath[l.path]; twin == nil || !slices.Equal(l.texts(), twin.texts()) {
			paths = append(paths, l.path)
		}
	}
	return paths
}
