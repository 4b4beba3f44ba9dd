umask 077; set -o pipefail
capx init
capx principal new bo@our.example --key-file bo.key
capx principal new ana@our.example --key-file ana.key
capx principal add bo@our.example --key "$(capx principal show --key-file bo.key 2> /dev/null)" --group finance
cat >> home/policy.toml <<'END'

[purpose.refund]
ttl = "1h"

[[purpose.refund.grant]]
how = "at_open"
allow = ["crm.accounts.read"]

[[purpose.refund.grant]]
how = "on_request"
budget = { refunds = 2 }
allow."billing.refund" = { amount = { range = [0.01, 50] } }

[[purpose.refund.grant]]
how = "ask"
approvers = ["finance"]
within = "30m"
allow."billing.refund" = { amount = { range = [50, 500] } }
END
capx principal add ana@our.example --key "$(capx principal show --key-file ana.key 2> /dev/null)" --tenant Acme --purpose refund
capx principal list --json
capx policy check --json
capx policy explain --json
capx policy explain
capx intent new --principal ana@our.example --purpose refund --tenant Acme --statement "A refund." > refund.json
capx policy try refund.json --json
capx intent sign refund.json --key-file ana.key > refund.intent
capx intent show refund.intent --json
capx intent verify refund.intent --json
capx task open --intent refund.intent > task.token
capx intent list --json
capx inspect --json --token-file task.token
capx inspect --blocks --token-file task.token
capx can --json --token-file task.token
capx delegate --to billing-agent --allow billing.refund --may-ask billing.refund --budget calls=9 --token-file task.token > sub.token
capx attenuate --allow crm.accounts.read --where args.id=a-1 --expires 30m --token-file task.token > narrow.token
capx diff task.token narrow.token --json
capx explain --action crm.accounts.read --arg id=a-2 --token-file narrow.token --json
capx verify --action crm.accounts.read --arg id=a-1 --tenant Acme --token-file narrow.token --json
capx verify --action crm.accounts.read --arg id=a-1 --tenant Globex --token-file narrow.token --json
capx ask billing.refund --with amount:=20 --token-file task.token > wider.token
capx ask billing.refund --with amount:=90 --token-file task.token
capx requests list --json
capx requests show last --json
request=$(capx requests list --json | grep '"id"' | cut -d '"' -f 4)
capx requests approve "$request" --as ana@our.example --key-file ana.key --yes
capx requests approve "$request" --as bo@our.example --key-file bo.key --yes
capx ask billing.refund --with amount:=90 --token-file task.token > widest.token
capx present --action billing.refund --arg amount:=20 --token-file wider.token > refund.presented
capx present --http GET /accounts --audience crm --header --token-file task.token
capx verify --action billing.refund --arg amount:=20 --tenant Acme --token-file refund.presented --json
python3 decide.py
capx find --json
capx find --denied --json
capx why last --json
capx why last
capx graph --json
capx graph --format mermaid
capx graph --format dot
capx task open --tenant Acme --purpose qbr --allow crm.read --allow slides.write --with deck=deck-42 > qbr.token
capx mint last --allow tickets.read --expires 10m > minted.token
capx export --audience crm --token-file qbr.token
capx keys list --json
capx keys add
capx keys list --json
capx revoke last --dry-run --json
capx revoke last --json
capx revoke --issued-before 5d --json
capx task list --json
capx task show last --json
capx serve --listen 127.0.0.1:8000 --json > where.txt &
curl --silent --retry 9 --retry-connrefused --retry-delay 1 http://127.0.0.1:8000/healthz; echo
sed 's/"pid": [0-9]*/"pid": 1/' where.txt
curl --silent http://127.0.0.1:8000/openapi.json > openapi.everybody.json
curl --silent --unix-socket home/authority.sock http://capx/openapi.json > openapi.operators.json
export CAPX_AUTHORITY=unix:$PWD/home/authority.sock
capx_curl() { curl --silent --show-error --unix-socket home/authority.sock "$@"; echo; }
capx_curl http://capx/tasks --json '{"allow": ["crm.read"], "tenant": "Acme"}'
capx_curl http://capx/tasks --json '{"allow": ["crm.read"], "tenants": "Acme"}'
capx_curl http://capx/tasks/nobody
capx_curl http://capx/nowhere
capx_curl 'http://capx/log?since=0&limit=2'
capx_curl 'http://capx/decisions?limit=1' | sed 's/"at":[0-9.]*//'
capx_curl http://capx/requests
capx_curl http://capx/graph
curl --silent http://127.0.0.1:8000/agent/status; echo
curl --silent http://127.0.0.1:8000/readyz; echo
curl --silent http://127.0.0.1:8000/metrics | grep '# TYPE'
curl --silent http://127.0.0.1:8000/feed | sed 's/ [^ ]*$//'; echo
capx call http://127.0.0.1:8000/agent/status --audience authority --token-file task.token
capx present --action grant.request --audience authority --arg audience=billing --arg action=billing.refund --arg 'args:={"amount": 30}' --token-file task.token > asked.txt
curl --silent http://127.0.0.1:8000/agent/ask --header "Authorization: Capx $(cat asked.txt)" --json '{"audience": "billing", "action": "billing.refund", "args": {"amount": 30}}'; echo
capx present --action grant.request --audience authority --arg audience=hr --arg action=hr.read --token-file task.token > asked.txt
curl --silent http://127.0.0.1:8000/agent/ask --header "Authorization: Capx $(cat asked.txt)" --json '{"audience": "hr", "action": "hr.read"}'; echo
capx call http://127.0.0.1:8000/agent/revoke --audience authority --token-file sub.token --data '{}'
capx task list --json
capx task show last --json
capx task open --tenant Acme --allow crm.read > remote.token
capx mint last --allow tickets.read > /dev/null
capx find --json
capx graph --json
capx requests list --all --json
capx intent list --json
capx revoke last --dry-run --json
capx task complete last --json
capx task open --allow crm.read > withdrawn.token
capx task withdraw last --json
capx intent withdraw refund.json --json
capx log --json    # in any order
unset CAPX_AUTHORITY
kill %1; wait
capx log    # in any order
capx doctor --json | sed 's/3\.[0-9]*\.[0-9]*/VERSION/'
capx store check --json
capx store stats --json
capx store prune --json
capx store backup saved.db --json
capx store restore saved.db --yes --json
capx verify --action crm.accounts.read --tenant Acme --token-file task.token --json
capx keys export crm
capx store role crm
python3 stored.py schema
python3 stored.py events    # in any order
