(** T11 [absorbing]: every start falls into S after j steps, and G contracts S. *)
From Coq Require Import Reals Lra Lia.
From Deqops Require Import Metric Picard RealLine.
Local Open Scope R_scope.
Set Implicit Arguments.

(** One equilibrium in all of the space, reached from every start, at the rate q from the j-th step on. *)
Theorem absorbing (M : Metric_Space) (S : Base M -> Prop) (G : Base M -> Base M) (q : R) (j : nat) :
  (exists y, S y) -> complete M S -> 0 <= q < 1 ->
  (forall y, S (iterate M G y j)) -> invariant M S G -> lipschitz M S q G ->
  exists s, S s /\ equilibrium M G s
  /\ (forall t, equilibrium M G t -> t = s)
  /\ (forall z0, tends M (iterate M G z0) s
        /\ forall n, dist M (iterate M G z0 (n + j)) s
             <= q ^ n / (1 - q) * dist M (iterate M G z0 (1 + j)) (iterate M G z0 j))
  /\ (forall y, S y -> dist M y s <= dist M (G y) y / (1 - q)).
Proof.
  intros [y0 start] full range falls stays contracts.
  destruct (picard range stays contracts full y0 start) as [s [Ss [fixed [only [conv bound]]]]].
  exists s. split; [exact Ss|]. split; [exact fixed|]. split; [|split; [|exact bound]].
  - intros t ft. apply only; [|exact ft].
    assert (still : forall n, iterate M G t n = t).
    { induction n as [|n IH]; simpl; [reflexivity|]. rewrite IH. exact ft. }
    rewrite <- (still j). apply falls.
  - intros z0. destruct (conv _ (falls z0)) as [lim [prior _]]. split.
    + intros eps pos. destruct (lim eps pos) as [N HN]. exists (N + j)%nat. intros n later.
      replace n with (n - j + j)%nat by lia. rewrite iterate_shift. apply HN. lia.
    + intros n. rewrite !iterate_shift. apply prior.
Qed.

(** The hypotheses can be met where T1 fails: min(6/100, 6 y^2) expands somewhere, but its values contract. *)
Definition capped (y : R) : R := Rmin (6 / 100) (6 * (y * y)).

Theorem absorbing_instance :
  (forall y0, tends line (iterate line capped y0) 0) /\ forall q, q < 1 -> ~ lipschitz line (fun _ => True) q capped.
Proof.
  assert (low : forall y, 0 <= y <= 6 / 100 -> capped y = 6 * (y * y)).
  { intros y range. apply Rmin_right. nra. }
  split.
  - assert (full : complete line (fun y => 0 <= y <= 6 / 100)).
    { intros u inside cau. destruct (@line_complete u (fun _ => I) cau) as [l [_ lim]].
      exists l. split; [|exact lim].
      split; apply Rnot_lt_le; intros out.
      - destruct (lim (- l)) as [N HN]; [lra|]. specialize (HN N (le_n N)). pose proof (inside N).
        simpl in HN. unfold R_dist, Rabs in HN. destruct Rcase_abs in HN; lra.
      - destruct (lim (l - 6 / 100)) as [N HN]; [lra|]. specialize (HN N (le_n N)). pose proof (inside N).
        simpl in HN. unfold R_dist, Rabs in HN. destruct Rcase_abs in HN; lra. }
    assert (into : forall y, 0 <= capped y <= 6 / 100).
    { intros y. unfold capped. split; [apply Rmin_glb; nra | apply Rmin_l]. }
    destruct (@absorbing line (fun y => 0 <= y <= 6 / 100) capped (72 / 100) 1) as [s [_ [_ [only [conv _]]]]].
    + exists 0. lra.
    + exact full.
    + lra.
    + intros y. apply into.
    + intros y _. apply into.
    + intros y z Sy Sz. rewrite (low y Sy), (low z Sz). simpl. unfold R_dist.
      replace (6 * (y * y) - 6 * (z * z)) with ((6 * (y + z)) * (y - z)) by ring. rewrite Rabs_mult.
      apply Rmult_le_compat_r; [apply Rabs_pos|]. rewrite Rabs_right; lra.
    + assert (s = 0) as <-.
      { symmetry. apply only. unfold equilibrium, capped. rewrite Rmin_right; lra. }
      intros y0. exact (proj1 (conv y0)).
  - intros q below lip. pose proof (lip (1 / 10) (9 / 100) I I) as k. simpl in k. unfold R_dist, capped in k.
    rewrite Rmin_left, Rmin_right in k by lra.
    rewrite (Rabs_right (6 / 100 - _)), (Rabs_right (1 / 10 - _)) in k by lra. lra.
Qed.
