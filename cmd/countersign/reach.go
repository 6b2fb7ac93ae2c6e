package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/countersign/countersign/reach"
)

// reachSettings are what can be set about telling customers that something waits for their decision (docs/reach.md).
type reachSettings struct {
	SilentBrowsers bool `name:"silent-browsers" help:"Do not offer customers that their browsers ring (Web Push)." env:"COUNTERSIGN_SILENT_BROWSERS"`

	SMTPAddress      string `name:"smtp-address" help:"Mail server by which customers are told; none by default." env:"COUNTERSIGN_SMTP_ADDRESS" placeholder:"HOST:PORT"`
	SMTPTLS          string `name:"smtp-tls" help:"How the connection is protected: starttls (or nothing is sent), implicit (mostly port 465), or none." env:"COUNTERSIGN_SMTP_TLS" enum:"starttls,implicit,none" default:"starttls"`
	SMTPUser         string `name:"smtp-user" help:"User to log in as; none by default." env:"COUNTERSIGN_SMTP_USER"`
	SMTPPasswordFile string `name:"smtp-password-file" help:"File with the password." env:"COUNTERSIGN_SMTP_PASSWORD_FILE" placeholder:"FILE" xor:"smtp-password"`
	SMTPPassword     string `name:"smtp-password" help:"The password itself: for the environment, others on the machine see flags." env:"COUNTERSIGN_SMTP_PASSWORD" xor:"smtp-password"`
	SMTPFrom         string `name:"smtp-from" help:"Who writes, such as 'Bank <no-reply@bank.example>'." env:"COUNTERSIGN_SMTP_FROM" placeholder:"ADDRESS"`

	SMSGateway   string `name:"sms-gateway" help:"Https URL of the SMS gateway by which customers are told; none by default." env:"COUNTERSIGN_SMS_GATEWAY" placeholder:"URL"`
	SMSTemplate  string `name:"sms-gateway-template" help:"File with the JSON it is posted, with {to}, {text} and {id} in its strings; by default {\"to\": \"{to}\", \"text\": \"{text}\"}." env:"COUNTERSIGN_SMS_GATEWAY_TEMPLATE" placeholder:"FILE"`
	SMSTokenFile string `name:"sms-gateway-token-file" help:"File with the bearer token it asks for." env:"COUNTERSIGN_SMS_GATEWAY_TOKEN_FILE" placeholder:"FILE" xor:"sms-gateway-token"`
	SMSToken     string `name:"sms-gateway-token" help:"The token itself: for the environment." env:"COUNTERSIGN_SMS_GATEWAY_TOKEN" xor:"sms-gateway-token"`

	FineractSMS         string `name:"fineract-sms-gateway" help:"Https URL of the message gateway that the institution runs for Fineract, instead of sms-gateway (its host_name, port_number and end_point)." env:"COUNTERSIGN_FINERACT_SMS_GATEWAY" placeholder:"URL"`
	FineractSMSTenant   string `name:"fineract-sms-tenant" help:"The institution's name there." env:"COUNTERSIGN_FINERACT_SMS_TENANT" placeholder:"TENANT"`
	FineractSMSKeyFile  string `name:"fineract-sms-key-file" help:"File with its tenant_app_key." env:"COUNTERSIGN_FINERACT_SMS_KEY_FILE" placeholder:"FILE" xor:"fineract-sms-key"`
	FineractSMSKey      string `name:"fineract-sms-key" help:"The key itself: for the environment." env:"COUNTERSIGN_FINERACT_SMS_KEY" xor:"fineract-sms-key"`
	FineractSMSProvider int64  `name:"fineract-sms-provider" help:"Number of the gateway's SMS provider that sends." env:"COUNTERSIGN_FINERACT_SMS_PROVIDER" placeholder:"NUMBER"`

	Webhook            string   `name:"approval-webhook" help:"Https URL of the institution's own, told of each request that waits for a customer; none by default." env:"COUNTERSIGN_APPROVAL_WEBHOOK" placeholder:"URL"`
	WebhookSecretFiles []string `name:"approval-webhook-secret-file" help:"Files with the secrets that sign it (whsec_...); two while one takes the place of the other." env:"COUNTERSIGN_APPROVAL_WEBHOOK_SECRET_FILE" placeholder:"FILE"`
	WebhookSecrets     []string `name:"approval-webhook-secret" help:"Such secrets themselves: for the environment." env:"COUNTERSIGN_APPROVAL_WEBHOOK_SECRET"`

	ReachCA []string `name:"reach-ca" help:"Authorities, beside the system's, that vouch for the mail server, the SMS gateway and the webhook (PEM)." env:"COUNTERSIGN_REACH_CA" placeholder:"FILE"`
}

// channels are the ways to reach customers that the settings name, beside their browsers.
func (s *reachSettings) channels(bank string) (all []reach.Channel, err error) {
	if err := s.orphans(); err != nil {
		return nil, err
	}
	var roots *x509.CertPool // the system's
	if len(s.ReachCA) > 0 {
		if roots, err = x509.SystemCertPool(); err == nil {
			err = addToPool(roots, s.ReachCA)
		}
		if err != nil {
			return nil, fmt.Errorf("reach-ca: %w", err)
		}
	}
	for _, make := range []func(string, *x509.CertPool) (reach.Channel, error){s.email, s.sms, s.webhook} {
		c, err := make(bank, roots)
		if err != nil {
			return nil, err
		}
		if c != nil {
			all = append(all, c)
		}
	}
	return all, nil
}

// orphans refuses settings of a channel that is not there: whoever made them means to have it.
func (s *reachSettings) orphans() error {
	var wrong []error
	for _, c := range []struct {
		needs string
		there bool
		set   []string
	}{
		{"smtp-address", s.SMTPAddress != "", []string{s.SMTPUser, s.SMTPPassword, s.SMTPPasswordFile, s.SMTPFrom}},
		{"smtp-user", s.SMTPUser != "", []string{s.SMTPPassword, s.SMTPPasswordFile}},
		{"sms-gateway", s.SMSGateway != "", []string{s.SMSTemplate, s.SMSToken, s.SMSTokenFile}},
		{"fineract-sms-gateway", s.FineractSMS != "", []string{s.FineractSMSTenant, s.FineractSMSKey, s.FineractSMSKeyFile}},
		{"approval-webhook", s.Webhook != "", slices.Concat(s.WebhookSecrets, s.WebhookSecretFiles)},
	} {
		if !c.there && strings.Join(c.set, "") != "" {
			wrong = append(wrong, fmt.Errorf("%s is not set, but others are that go with it", c.needs))
		}
	}
	if s.SMSGateway != "" && s.FineractSMS != "" {
		wrong = append(wrong, errors.New("sms-gateway and fineract-sms-gateway are two ways to send the same: set one"))
	}
	return errors.Join(wrong...)
}

func (s *reachSettings) email(bank string, roots *x509.CertPool) (reach.Channel, error) {
	if s.SMTPAddress == "" {
		return nil, nil
	}
	password, err := fromFile(s.SMTPPassword, s.SMTPPasswordFile)
	if err != nil {
		return nil, fmt.Errorf("smtp-password: %w", err)
	}
	return channel(reach.NewEmail(reach.EmailOptions{
		Address: s.SMTPAddress, TLS: reach.SMTPTLS(s.SMTPTLS), User: s.SMTPUser, Password: password, From: s.SMTPFrom, Bank: bank, RootCAs: roots,
	}))
}

func (s *reachSettings) sms(bank string, roots *x509.CertPool) (reach.Channel, error) {
	if s.FineractSMS != "" {
		key, err := fromFile(s.FineractSMSKey, s.FineractSMSKeyFile)
		if err != nil {
			return nil, fmt.Errorf("fineract-sms-key: %w", err)
		}
		return channel(reach.NewFineractSMS(reach.FineractSMSOptions{
			URL: s.FineractSMS, TenantID: s.FineractSMSTenant, TenantKey: key, ProviderID: s.FineractSMSProvider, Bank: bank, RootCAs: roots,
		}))
	}
	if s.SMSGateway == "" {
		return nil, nil
	}
	token, err := fromFile(s.SMSToken, s.SMSTokenFile)
	if err != nil {
		return nil, fmt.Errorf("sms-gateway-token: %w", err)
	}
	template, err := fromFile("", s.SMSTemplate)
	if err != nil {
		return nil, fmt.Errorf("sms-gateway-template: %w", err)
	}
	return channel(reach.NewSMS(reach.SMSOptions{URL: s.SMSGateway, Token: token, Template: template, Bank: bank, RootCAs: roots}))
}

func (s *reachSettings) webhook(_ string, roots *x509.CertPool) (reach.Channel, error) {
	if s.Webhook == "" {
		return nil, nil
	}
	secrets := slices.Clone(s.WebhookSecrets)
	for _, file := range s.WebhookSecretFiles {
		text, err := fromFile("", file)
		if err != nil {
			return nil, fmt.Errorf("approval-webhook-secret: %w", err)
		}
		secrets = append(secrets, text)
	}
	return channel(reach.NewWebhook(reach.WebhookOptions{URL: s.Webhook, Secrets: secrets, RootCAs: roots}))
}

// channel makes an interface of a pointer, but not of one to nothing.
func channel[C reach.Channel](c C, err error) (reach.Channel, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

// fromFile is what is given, or what a file holds, without the end of its line.
func fromFile(given, file string) (string, error) {
	if file == "" {
		return given, nil
	}
	content, err := os.ReadFile(file)
	return strings.TrimSpace(string(content)), err
}
