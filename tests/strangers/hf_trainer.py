"""A small GPT-2, made from its configuration, trained with Hugging Face's Trainer on made-up text."""

import argparse
import tempfile

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed


class Text(Dataset):
    """Token ids that repeat, so that there is something to learn."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        ids = (torch.arange(12) * (index % 3 + 1)) % 40
        return {"input_ids": ids, "labels": ids}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--root", default=None)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--resume", default=None)
    options = parser.parse_args()
    set_seed(3)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_positions=16, n_embd=16, n_layer=1, n_head=2))
    arguments = TrainingArguments(
        output_dir=options.root or tempfile.mkdtemp(),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        max_steps=options.steps,
        eval_strategy="epoch",
        logging_steps=3,
        save_steps=6,
        report_to="none",
        disable_tqdm=True,
        dataloader_num_workers=options.workers,
        use_cpu=True,
    )
    trainer = Trainer(model, arguments, train_dataset=Text(48), eval_dataset=Text(10))
    trainer.train(resume_from_checkpoint=options.resume)
    trainer.evaluate()
    print([repr(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry])
    print([repr(entry["eval_loss"]) for entry in trainer.state.log_history if "eval_loss" in entry])


if __name__ == "__main__":
    main()
