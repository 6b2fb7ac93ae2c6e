package authn

// words are texts that the catalogue of package web does not have; once it has one of that name, that one is shown.
var words = map[string]string{
	"error.server":          "We could not do this",
	"problem.username":      "This cannot be a user name. Please choose one of letters, digits and signs.",
	"problem.name":          "Please type your name in letters.",
	"problem.email":         "This is not an email address. Please check it.",
	"problem.password_weak": "This password is too easy to guess. Please choose one without your name, well-known words, dates or rows of keys.",
}

func (a *Authn) text(key string) string {
	if text := a.pages.Text(key); text != key {
		return text
	}
	if text, ok := words[key]; ok {
		return text
	}
	return key
}
