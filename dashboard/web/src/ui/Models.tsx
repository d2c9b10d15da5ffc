// Which model is looked at: one button each, with its evidence and how far it is.
import type { ModelScore } from "../api/types";
import { bits } from "../lib/format";
import { Raw } from "./Raw";

export function Models({ models, chosen, onChoose }: { models: readonly ModelScore[]; chosen: string | undefined; onChoose: (name: string) => void }) {
  if (models.length === 0) return null;
  return (
    <div role="group" aria-label="Model" className="mb-2 flex flex-wrap gap-1">
      {models.map((model) => (
        <button
          key={model.model_name}
          type="button"
          aria-pressed={model.model_name === chosen}
          className={`btn btn-sm ${model.model_name === chosen ? "border-accent bg-accent-soft" : ""}`}
          title={`version ${model.model_version}, ${model.state ?? "state not said"}, score ${model.score.toFixed(3)}`}
          onClick={() => onChoose(model.model_name)}
        >
          <Raw value={model.model_name.replaceAll("_", " ")} />
          <span className="num">{bits(model.evidence_bits)}</span>
          <span className="text-2xs text-muted">{model.state ?? ""}</span>
        </button>
      ))}
    </div>
  );
}
