"""REINFORCE in a corridor: walk right to the goal. Many forwards an episode, one backward, one optimizer step."""

import argparse

import torch
from torch import nn
from torch.distributions import Categorical

parser = argparse.ArgumentParser()
parser.add_argument("--workers", type=int)
parser.add_argument("--episodes", type=int, default=20)
args = parser.parse_args()
torch.manual_seed(543)
policy = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2), nn.Softmax(dim=-1))
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)


class Corridor:
    """Six places, and a reward at the last."""

    def reset(self):
        self.place = 0
        return self.place

    def step(self, action):
        self.place = max(0, self.place + (1 if action else -1))
        return self.place, (1.0 if self.place == 5 else -0.05), self.place == 5


env = Corridor()
for i_episode in range(args.episodes):
    state, rewards, log_probs = env.reset(), [], []
    for _ in range(30):
        choice = Categorical(policy(torch.eye(6)[state]))
        action = choice.sample()
        log_probs.append(choice.log_prob(action))
        state, reward, done = env.step(action.item())
        rewards.append(reward)
        if done:
            break
    returns, total = [], 0.0
    for reward in reversed(rewards):
        total = reward + 0.99 * total
        returns.insert(0, total)
    returns = torch.tensor(returns)
    optimizer.zero_grad()
    policy_loss = torch.stack([-p * r for p, r in zip(log_probs, returns - returns.mean(), strict=True)]).sum()
    policy_loss.backward()
    optimizer.step()
    print("episode", i_episode, len(rewards), repr(policy_loss.item()))
