"""A recurrent language model of made-up text, as in PyTorch's example: batches are slices, no loader."""

import argparse
import math

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--workers", type=int)
parser.add_argument("--bptt", type=int, default=10)
args = parser.parse_args()
torch.manual_seed(1111)
words = torch.randint(50, (8 * 121,)).view(8, -1).t().contiguous()
train_data, val_data = words[:101], words[101:]


class RNNModel(nn.Module):
    """Embedding, LSTM, words."""

    def __init__(self):
        super().__init__()
        self.encoder, self.rnn, self.decoder = nn.Embedding(50, 24), nn.LSTM(24, 24), nn.Linear(24, 50)

    def forward(self, text, hidden):
        output, hidden = self.rnn(self.encoder(text), hidden)
        return self.decoder(output).view(-1, 50), hidden


model = RNNModel()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=1.0)


def get_batch(source, i):
    length = min(args.bptt, len(source) - 1 - i)
    return source[i : i + length], source[i + 1 : i + 1 + length].reshape(-1)


def evaluate(source):
    model.eval()
    total, hidden = 0.0, None
    with torch.no_grad():
        for i in range(0, source.size(0) - 1, args.bptt):
            data, targets = get_batch(source, i)
            output, hidden = model(data, hidden)
            total += len(data) * criterion(output, targets).item()
    return total / (len(source) - 1)


for epoch in range(1, 3):
    model.train()
    hidden = None
    for batch, i in enumerate(range(0, train_data.size(0) - 1, args.bptt)):
        data, targets = get_batch(train_data, i)
        if hidden is not None:
            hidden = tuple(h.detach() for h in hidden)
        model.zero_grad()
        output, hidden = model(data, hidden)
        loss = criterion(output, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        print("epoch", epoch, "batch", batch, repr(loss.item()))
    val_loss = evaluate(val_data)
    print("valid", repr(val_loss), "ppl", repr(math.exp(val_loss)))
