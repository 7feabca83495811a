package anchor

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestWebhookMistakesAreReportedByNewWithoutTheURL(t *testing.T) {
	t.Parallel()
	const hidden = "path-is-secret"
	for name, c := range map[string]struct {
		option TaskOption
		wants  []string
	}{
		"no URL":        {WebhookOnFailed(""), []string{"the URL is not like https://host/path"}},
		"no scheme":     {WebhookOnFailed("hooks.example/" + hidden), []string{"the URL is not like https://host/path"}},
		"other scheme":  {WebhookOnFailed("ftp://hooks.example/" + hidden), []string{"the URL is not like https://host/path"}},
		"no host":       {WebhookOnFailed("https:///" + hidden), []string{"the URL is not like https://host/path"}},
		"control":       {WebhookOnFailed("https://hooks.example/" + hidden + "\n"), []string{"the URL cannot be parsed"}},
		"private":       {WebhookOnFailed("http://10.0.0.1/" + hidden), []string{"the address 10.0.0.1 is not public, and not allowed by WithWebhookAllow"}},
		"loopback":      {WebhookOnFailed("http://[::1]:80/" + hidden), []string{"the address ::1 is not public"}},
		"short secret":  {WebhookOnFailed("https://hooks.example/"+hidden, WithWebhookSecret("")), []string{"a secret has 0 bytes, at least 16 are needed"}},
		"no prefix":     {WebhookOnFailed("https://hooks.example/"+hidden, WithWebhookAllow("10.0.0.0/33")), []string{`"10.0.0.0/33" is neither a prefix`}},
		"nil option":    {WebhookOnFailed("https://hooks.example/"+hidden, nil), []string{"option 1 is nil"}},
		"all at once":   {WebhookOnFailed("hooks.example/"+hidden, WithWebhookSecret("short"), WithWebhookAllow("all")), []string{"5 bytes", `"all" is neither`, "not like https"}},
		"invalid UTF-8": {WebhookOnFailed("https://hooks.ex\xff/" + hidden), []string{"the URL cannot be parsed"}},
	} {
		_, err := New(NewMemoryStore(), WithTasks(Define[noParams]("Charge", nil, c.option)))
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, want := range append(c.wants, "webhook_declare_test.go", "WebhookOnFailed(") {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %q, want one with %q", name, err, want)
			}
		}
		if strings.Contains(err.Error()+fmt.Sprint(c.option), hidden) {
			t.Errorf("%s: the path is in the error %q or in the option's text %q", name, err, c.option)
		}
	}
	secret := WithWebhookSecret(webhookSecretNew)
	if strings.Contains(fmt.Sprintf("%v %s", secret, secret), webhookSecretNew) {
		t.Errorf("the option's text has the secret: %v", secret)
	}
}

func TestWebhookIsGivenOnceAndToANameThatHasRoom(t *testing.T) {
	t.Parallel()
	hook := WebhookOnFailed("https://hooks.example/")
	if _, err := New(NewMemoryStore(), WithTasks(Define[noParams]("Charge", nil, hook, hook))); err == nil || !strings.Contains(err.Error(), "the task has a webhook already") {
		t.Errorf("two webhooks: %v", err)
	}
	long := strings.Repeat("x", maxNameLength-len(webhookPrefix))
	if _, err := New(NewMemoryStore(), WithTasks(Define[noParams](long, nil, hook))); err != nil {
		t.Errorf("a name of %d bytes: %v", len(long), err)
	}
	if _, err := New(NewMemoryStore(), WithTasks(Define[noParams](long+"x", nil, hook))); err == nil || !strings.Contains(err.Error(), "at most 185 are allowed with a webhook") {
		t.Errorf("a name of %d bytes: %v", len(long)+1, err)
	}
}

// One declaration may stand in many clients, and its webhook does so with it.
func TestWebhookStandsInTheExportAndInEveryClient(t *testing.T) {
	t.Parallel()
	task := Define("Charge", func(context.Context, pgx.Tx, *noParams) error { return nil }, WebhookOnFailed("https://hooks.example/path-is-secret", WithWebhookSecret(webhookSecretNew)))
	var exports [2]bytes.Buffer
	for i := range exports {
		client, err := New(NewMemoryStore(), WithTasks(task))
		if err != nil {
			t.Fatal(err)
		}
		if err := client.ExportYAML(&exports[i]); err != nil {
			t.Fatal(err)
		}
	}
	export := exports[0].String()
	if export != exports[1].String() {
		t.Error("two exports differ")
	}
	for _, want := range []string{"name: anchor.webhook/Charge", "queue: anchor.webhooks", "interval: 5s,30s,2m,10m,30m,1h,3h", "maxAttempts: 12", "timeout: 30s", "- onFailed"} {
		if !strings.Contains(export, want) {
			t.Errorf("the export does not have %q", want)
		}
	}
	for _, secret := range []string{"path-is-secret", webhookSecretNew} {
		if strings.Contains(export, secret) {
			t.Errorf("the export has %q", secret)
		}
	}
}
