"""One client from Python: attack the global model, fine-tune in two ways, and measure."""

import sys

import fedml_spurious as fs

METHODS = {"ft": {}, "ours": {"lam_adv": 1.0, "lam_l2": 0.1}}


def main(folder: str = "runs/library", *overrides: str) -> None:
    """Train the quickstart's global model, and personalize it for one of its clients."""
    run = fs.run("quickstart", folder, ["experiment_args.methods=[global]", *overrides], resume=True)
    client, model = run.client("0003"), run.global_model()
    view = client.view(p_seed=0)  # its training and validation samples, and no test set
    x_adv = fs.Attack("linf", eps=client.eps)(model, view.val.x, view.val.y)
    attacked = fs.evaluate(model, x_adv, view.val.y)
    print(f"attacked, the global model classifies {attacked.correct} of {attacked.count} images correctly")
    for name, options in METHODS.items():
        personal = client.personalize(fs.make_method(name, **options), p_seed=0)
        model.load_state_dict(personal.state)
        cells = client.measure(model)
        print(f"{name}: Acc_B {cells['acc_b']:.3f}, Acc_BC {cells['acc_bc']:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
