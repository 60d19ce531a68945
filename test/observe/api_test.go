package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/sluicewal/sluice/test/rig"
)

// api is a server that answers in JSON.
type api struct{ *rig.Server }

func (a api) get(ctx context.Context, path string, query url.Values, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.Address+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s answers %s: %s", path, resp.Status, body)
	}
	return json.Unmarshal(body, out)
}

// alert is one that Prometheus or Alertmanager knows of.
type alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	State       string            `json:"state"` // Prometheus: pending or firing
	ActiveAt    time.Time         `json:"activeAt"`
	Status      struct {          // Alertmanager
		State string `json:"state"`
	} `json:"status"`
}

func (a alert) name() string { return a.Labels["alertname"] }

// String names the alert and what it is about.
func (a alert) String() string { return fmt.Sprintf("%s: %s", a.name(), a.Annotations["summary"]) }

// has says whether the alert has each of the labels.
func (a alert) has(labels map[string]string) bool {
	for name, value := range labels {
		if a.Labels[name] != value {
			return false
		}
	}
	return true
}

type prometheus struct{ api }

// firing returns the alerts that fire now.
func (p prometheus) firing(ctx context.Context) ([]alert, error) {
	var answer struct {
		Data struct {
			Alerts []alert `json:"alerts"`
		} `json:"data"`
	}
	if err := p.get(ctx, "/api/v1/alerts", nil, &answer); err != nil {
		return nil, err
	}
	var firing []alert
	for _, a := range answer.Data.Alerts {
		if a.State == "firing" {
			firing = append(firing, a)
		}
	}
	return firing, nil
}

// healthy returns why a rule could not be evaluated, or a node not be scraped.
func (p prometheus) healthy(ctx context.Context) error {
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct {
					Name      string `json:"name"`
					Health    string `json:"health"`
					LastError string `json:"lastError"`
				} `json:"rules"`
			} `json:"groups"`
		} `json:"data"`
	}
	if err := p.get(ctx, "/api/v1/rules", nil, &answer); err != nil {
		return err
	}
	rules := 0
	for _, g := range answer.Data.Groups {
		for _, r := range g.Rules {
			if rules++; r.Health == "err" {
				return fmt.Errorf("the rule %s cannot be evaluated: %s", r.Name, r.LastError)
			}
		}
	}
	if rules == 0 {
		return fmt.Errorf("there are no rules")
	}
	return nil
}

// up says how many nodes were scraped.
func (p prometheus) up(ctx context.Context) (n int, err error) {
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := p.get(ctx, "/api/v1/query", url.Values{"query": {`up{job="sluice"} == 1`}}, &answer); err != nil {
		return 0, err
	}
	return len(answer.Data.Result), nil
}

type alertmanager struct{ api }

// active returns the alerts that somebody would be told of now.
func (a alertmanager) active(ctx context.Context) (alerts []alert, err error) {
	err = a.get(ctx, "/api/v2/alerts", url.Values{"active": {"true"}}, &alerts)
	return alerts, err
}
