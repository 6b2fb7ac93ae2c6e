package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestReachSettings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	const key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	secret, template := file("secret", key+"\n"), file("template.json", `{"recipient": "{to}", "body": "{text}"}`)
	email := reachSettings{SMTPAddress: "mail.example:587", SMTPTLS: "starttls", SMTPFrom: "Bank <no-reply@bank.example>"}
	for _, test := range []struct {
		name  string
		s     reachSettings
		want  string // kinds
		fails string
	}{
		{"nothing", reachSettings{}, "", ""},
		{"email", email, "email", ""},
		{"email, logged in", reachSettings{SMTPAddress: "mail.example:587", SMTPTLS: "starttls", SMTPFrom: "no-reply@bank.example", SMTPUser: "bank", SMTPPasswordFile: secret}, "email", ""},
		{"SMS", reachSettings{SMSGateway: "https://gateway.example", SMSTemplate: template, SMSToken: "x"}, "sms", ""},
		{"SMS by Fineract's gateway", reachSettings{FineractSMS: "https://gateway.example:9191/messagegateway", FineractSMSTenant: "default", FineractSMSKeyFile: secret, FineractSMSProvider: 1}, "sms", ""},
		{"webhook, two secrets", reachSettings{Webhook: "https://bank.example/hook", WebhookSecretFiles: []string{secret}, WebhookSecrets: []string{key}}, "webhook", ""},
		{"all", reachSettings{SMTPAddress: "mail.example:587", SMTPTLS: "starttls", SMTPFrom: "no-reply@bank.example", SMSGateway: "https://gateway.example",
			Webhook: "https://bank.example/hook", WebhookSecrets: []string{key}}, "email sms webhook", ""},

		{"no sender", reachSettings{SMTPAddress: "mail.example:587", SMTPTLS: "starttls"}, "", "from must be an address"},
		{"no port", reachSettings{SMTPAddress: "mail.example", SMTPTLS: "starttls", SMTPFrom: "a@bank.example"}, "", "host:port"},
		{"a password, no TLS", reachSettings{SMTPAddress: "mail.example:25", SMTPTLS: "none", SMTPFrom: "a@bank.example", SMTPUser: "bank"}, "", "without TLS"},
		{"a password file that is not there", reachSettings{SMTPAddress: "mail.example:25", SMTPTLS: "none", SMTPFrom: "a@bank.example", SMTPUser: "bank", SMTPPasswordFile: dir + "/none"}, "", "smtp-password"},
		{"a sender, no server", reachSettings{SMTPFrom: "a@bank.example"}, "", "smtp-address is not set"},
		{"a password, no user", reachSettings{SMTPAddress: "mail.example:25", SMTPPassword: "x"}, "", "smtp-user is not set"},
		{"http", reachSettings{SMSGateway: "http://gateway.example"}, "", "https"},
		{"a template that is none", reachSettings{SMSGateway: "https://gateway.example", SMSTemplate: secret}, "", "not JSON"},
		{"a token, no gateway", reachSettings{SMSTokenFile: secret}, "", "sms-gateway is not set"},
		{"two gateways", reachSettings{SMSGateway: "https://gateway.example", FineractSMS: "https://gateway.example", FineractSMSTenant: "default", FineractSMSKey: "x", FineractSMSProvider: 1}, "", "set one"},
		{"a tenant, no gateway", reachSettings{FineractSMSTenant: "default"}, "", "fineract-sms-gateway is not set"},
		{"no key", reachSettings{FineractSMS: "https://gateway.example", FineractSMSTenant: "default", FineractSMSProvider: 1}, "", "its key"},
		{"no provider", reachSettings{FineractSMS: "https://gateway.example", FineractSMSTenant: "default", FineractSMSKey: "x"}, "", "provider"},
		{"no secret", reachSettings{Webhook: "https://bank.example/hook"}, "", "no secret"},
		{"a weak secret", reachSettings{Webhook: "https://bank.example/hook", WebhookSecrets: []string{"password"}}, "", "whsec_"},
		{"a secret, no webhook", reachSettings{WebhookSecrets: []string{key}}, "", "approval-webhook is not set"},
		{"no authority", reachSettings{ReachCA: []string{secret}}, "", "no certificate"},
	} {
		all, err := test.s.channels("Meadow Bank")
		var kinds []string
		for _, c := range all {
			kinds = append(kinds, c.Kind())
		}
		if (err != nil) != (test.fails != "") || err != nil && !strings.Contains(err.Error(), test.fails) {
			t.Errorf("%s: %v, want %q", test.name, err, test.fails)
		}
		if err == nil && !slices.Equal(kinds, strings.Fields(test.want)) {
			t.Errorf("%s: %v, want %s", test.name, kinds, test.want)
		}
	}
}
