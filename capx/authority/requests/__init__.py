"""Run-time asks: whether the policy offers what an agent asks for, who has to consent, and the grant."""
