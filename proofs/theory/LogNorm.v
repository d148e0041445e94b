(** T5 (b) [monotone]: a logarithmic norm below 1 over all slopes, in weighted linf and l1. *)
From Coq Require Import Reals Lra Lia FunctionalExtensionality.
From Coq Require Fin.
From Deqops Require Import Metric Picard BanachSpace Damped Vectors VectorSpace Slopes Componentwise LocalLyapunov.
Local Open Scope R_scope.
Set Implicit Arguments.

Definition off_diagonal (n : nat) (M : mat n n) (i j : Fin.t n) : R := if Fin.eq_dec i j then 0 else Rabs (M i j).

(** max_i (M_ii + sum over the others of |M_ij| w_i/w_j) <= m: the logarithmic norm of max w_i |x_i|. *)
Definition log_norm_sup (n : nat) (w : Fin.t n -> posreal) (M : mat n n) (m : R) : Prop :=
  forall i, M i i + sum (fun j => off_diagonal M i j * (w i / w j)) <= m.

(** max_j (M_jj + sum over the others of |M_ij| w_i/w_j) <= m: the logarithmic norm of sum w_i |x_i|. *)
Definition log_norm_sum (n : nat) (w : Fin.t n -> posreal) (M : mat n n) (m : R) : Prop :=
  forall j, M j j + sum (fun i => off_diagonal M i j * (w i / w j)) <= m.

(** I + b (M - I), the damped slopes. *)
Definition damped_slope (n : nat) (b : R) (M : mat n n) : mat n n := fun i j => (1 - b) * unit_matrix i j + b * M i j.

Lemma damped_slope_apply n b (M : mat n n) v i : apply (damped_slope b M) v i = (1 - b) * v i + b * apply M v i.
Proof.
  unfold apply, damped_slope. rewrite <- (sum_pick i v), <- !sum_scale, <- sum_add.
  apply sum_ext. intros j. ring.
Qed.

Lemma sum_with n (i : Fin.t n) (c : R) (x : vec n) : sum (fun j => unit_matrix i j * c + x j) = c + sum x.
Proof. rewrite sum_add. f_equal. exact (sum_pick i (fun _ => c)). Qed.

(** With its diagonal kept nonnegative by the damping, the damped slope's entries are what mu counts. *)
Lemma damped_entry n b d (M : mat n n) i j : 0 < b -> b * (1 - d) <= 1 -> d <= M i i ->
  Rabs (damped_slope b M i j) = unit_matrix i j * (1 - b + b * M i i) + b * off_diagonal M i j.
Proof.
  intros b0 step low. unfold damped_slope, off_diagonal. destruct (Fin.eq_dec i j) as [<-|apart].
  - rewrite unit_same. rewrite Rabs_right; [ring|]. assert (b * d <= b * M i i) by nra. lra.
  - rewrite unit_apart by exact apart. rewrite Rmult_0_r, Rplus_0_l, Rabs_mult, Rabs_right by lra. ring.
Qed.

Lemma damped_sup n w b d m (M : mat n n) : 0 < b -> b * (1 - d) <= 1 -> (forall i, d <= M i i) -> log_norm_sup w M m ->
  forall v, size (sup_norm w) (apply (damped_slope b M) v) <= (1 - b * (1 - m)) * size (sup_norm w) v.
Proof.
  intros b0 step low mu v. simpl. set (c := most (weighed w v)). assert (c0 : 0 <= c) by apply most_nonneg.
  assert (rows : forall i, weighed w (apply (damped_slope b M) v) i <= (1 - b * (1 - m)) * c).
  { intros i. unfold weighed. pose proof (cond_pos (w i)) as wi.
    apply Rle_trans with (w i * sum (fun j => Rabs (damped_slope b M i j) * Rabs (v j))).
    { apply Rmult_le_compat_l; [lra | apply apply_abs]. }
    rewrite <- sum_scale.
    apply Rle_trans with
      (sum (fun j => c * (unit_matrix i j * (1 - b + b * M i i) + b * (off_diagonal M i j * (w i / w j))))).
    - apply sum_le. intros j. pose proof (cond_pos (w j)) as wj.
      assert (entry : w j * Rabs (v j) <= c) by exact (most_term (weighed w v) j).
      assert (here : Rabs (v j) <= c * / w j).
      { apply Rmult_le_reg_l with (1 := wj). replace (w j * (c * / w j)) with c by (field; lra). exact entry. }
      apply Rle_trans with (w i * (Rabs (damped_slope b M i j) * (c * / w j))).
      { apply Rmult_le_compat_l; [lra|]. apply Rmult_le_compat_l; [apply Rabs_pos | exact here]. }
      rewrite (@damped_entry n b d M i j b0 step (low i)). right. unfold off_diagonal.
      destruct (Fin.eq_dec i j) as [<-|apart]; [field; lra|]. rewrite (unit_apart apart). field. lra.
    - rewrite sum_scale, sum_with, sum_scale. specialize (mu i). rewrite (Rmult_comm _ c).
      apply Rmult_le_compat_l; [exact c0|]. nra. }
  apply most_lub; [|exact rows].
  destruct n as [|n]; [simpl in *; unfold c; simpl; lra|].
  exact (Rle_trans _ _ _ (weighed_nonneg w _ Fin.F1) (rows Fin.F1)).
Qed.

Lemma unit_symmetric n (i j : Fin.t n) : unit_matrix i j = unit_matrix j i.
Proof.
  destruct (Fin.eq_dec i j) as [<-|apart]; [reflexivity|].
  rewrite (unit_apart apart), unit_apart; [reflexivity|]. intros same. exact (apart (eq_sym same)).
Qed.

Lemma damped_sum n w b d m (M : mat n n) : 0 < b -> b * (1 - d) <= 1 -> (forall i, d <= M i i) -> log_norm_sum w M m ->
  forall v, size (sum_norm w) (apply (damped_slope b M) v) <= (1 - b * (1 - m)) * size (sum_norm w) v.
Proof.
  intros b0 step low mu v. simpl. rewrite <- sum_scale.
  apply Rle_trans with (sum (fun i => sum (fun j => w i * (Rabs (damped_slope b M i j) * Rabs (v j))))).
  { apply sum_le. intros i. pose proof (cond_pos (w i)). rewrite sum_scale. unfold weighed.
    apply Rmult_le_compat_l; [lra | apply apply_abs]. }
  rewrite sum_swap. apply sum_le. intros j. pose proof (cond_pos (w j)) as wj.
  rewrite (@sum_ext n _ (fun i => weighed w v j *
             (unit_matrix j i * (1 - b + b * M j j) + b * (off_diagonal M i j * (w i / w j))))).
  - rewrite sum_scale, sum_with, sum_scale. specialize (mu j). rewrite (Rmult_comm _ (weighed w v j)).
    apply Rmult_le_compat_l; [apply weighed_nonneg|]. nra.
  - intros i. rewrite (@damped_entry n b d M i j b0 step (low i)). unfold weighed, off_diagonal.
    destruct (Fin.eq_dec i j) as [<-|apart]; [field; lra|].
    rewrite (unit_symmetric j i), (unit_apart apart). field. lra.
Qed.

(** What both norms share: E's size with a bound mu of slopes that damping turns into the rate. *)
Lemma log_norm_any n (E : vector_norm n) (G : vec n -> vec n) (slope : mat n n -> Prop) (m d : R) : m < 1 -> d < 1 ->
  (forall y z, exists M, slope M /\ difference (G y) (G z) = apply M (difference y z)) ->
  (forall b M v, 0 < b <= / (1 - d) -> slope M ->
     size E (apply (damped_slope b M) v) <= (1 - b * (1 - m)) * size E v) ->
  exists s, G s = s /\ (forall t, G t = t -> t = s)
  /\ (forall y, size E (difference y s) <= size E (difference (G y) y) / (1 - m))
  /\ forall b, 0 < b <= / (1 - d) -> let F := fun y i => (1 - b) * y i + b * G y i in
       (forall y z, size E (difference (F y) (F z)) <= (1 - b * (1 - m)) * size E (difference y z))
       /\ forall z0 i eps, 0 < eps -> exists K, forall k, (K <= k)%nat -> Rabs (Nat.iter k F z0 i - s i) < eps.
Proof.
  intros below range sloped bounded. set (B := vector_space E).
  assert (damps : forall b, 0 < b <= / (1 - d) ->
            lipschitz (metric B) (fun _ => True) (1 - b * (1 - m)) (damped_map B b G)).
  { intros b step y z _ _. destruct (sloped y z) as [M [here eq]].
    assert (as_slope : difference (damped_map B b G y) (damped_map B b G z) =
      apply (damped_slope b M) (difference y z)).
    { extensionality i. rewrite damped_slope_apply, <- eq. unfold difference, damped_map; simpl. ring. }
    change (size E (difference (damped_map B b G y) (damped_map B b G z))
      <= (1 - b * (1 - m)) * size E (difference y z)).
    rewrite as_slope. exact (bounded b M _ step here). }
  assert (i0 : 0 < / (1 - d)) by (apply Rinv_0_lt_compat; lra).
  assert (rate : forall b, 0 < b <= / (1 - d) -> 0 <= Rmax 0 (1 - b * (1 - m)) < 1).
  { intros b step. split; [apply Rmax_l | apply Rmax_lub_lt; nra]. }
  assert (damps' : forall b, 0 < b <= / (1 - d) ->
            lipschitz (metric B) (fun _ => True) (Rmax 0 (1 - b * (1 - m))) (damped_map B b G)).
  { intros b step y z Sy Sz. apply Rle_trans with (1 := damps b step y z Sy Sz).
    apply Rmult_le_compat_r; [apply dist_nonneg | apply Rmax_r]. }
  assert (stays : forall b, invariant (metric B) (fun _ => True) (damped_map B b G)) by (intros b y _; exact I).
  assert (top : 0 < / (1 - d) <= / (1 - d)) by lra.
  destruct (picard (rate _ top) (stays _) (damps' _ top) (@metric_complete B) (zero B) I) as [s [_ [fixed [only _]]]].
  apply damped_equilibria in fixed; [|lra].
  assert (one : forall t, G t = t -> t = s).
  { intros t ft. apply only; [exact I|]. apply damped_equilibria; [lra | exact ft]. }
  exists s. split; [exact fixed|]. split; [exact one|]. split.
  - intros y. set (b := / (1 - d)) in *. pose proof (damps b top y s I I) as k.
    assert (still : damped_map B b G s = s) by (apply damped_equilibria; [lra | exact fixed]).
    rewrite still in k. pose proof (triangle (metric B) y (damped_map B b G y) s) as t.
    rewrite (symmetric (metric B) y (damped_map B b G y)) in t.
    change (norm B (sub B y s) <= norm B (sub B (damped_map B b G y) y) + norm B (sub B (damped_map B b G y) s)) in t.
    change (norm B (sub B (damped_map B b G y) s) <= (1 - b * (1 - m)) * norm B (sub B y s)) in k.
    rewrite damped_displacement, norm_scale in t.
    rewrite (Rabs_right b) in t by lra.
    change (norm B (sub B y s) <= norm B (sub B (G y) y) / (1 - m)).
    apply Rmult_le_reg_r with (1 - m); [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra.
    apply Rmult_le_reg_l with b; [lra|]. lra.
  - intros b step F. split.
    + intros y z. exact (damps b step y z I I).
    + intros z0. destruct (picard (rate b step) (stays b) (damps' b step) (@metric_complete B) z0 I)
        as [s' [_ [fixed' [_ [conv _]]]]].
      apply damped_equilibria in fixed'; [|lra]. rewrite (one s' fixed') in conv.
      destruct (conv z0 I) as [lim _]. intros i eps pos.
      destruct (@entry_tends n E _ _ lim i eps pos) as [K HK]. exists K. intros k late.
      change F with (damped_map B b G). rewrite (iterate_iter (metric B)). exact (HK k late).
Qed.

(** [bounded] says that mu(M) <= m in max w_i |x_i|, or in sum w_i |x_i|. That the diagonals of all slopes have a
    lower bound d is no loss where G is Lipschitz: d < 1 may be as low as one likes. *)
Theorem log_norm (n : nat) (w : Fin.t n -> posreal) (G : vec n -> vec n) (slope : mat n n -> Prop) (m d : R) :
  m < 1 -> d < 1 ->
  (forall y z, exists M, slope M /\ difference (G y) (G z) = apply M (difference y z)) ->
  (forall M, slope M -> forall i, d <= M i i) ->
  forall E : vector_norm n,
  (E = sup_norm w /\ (forall M, slope M -> log_norm_sup w M m))
    \/ (E = sum_norm w /\ (forall M, slope M -> log_norm_sum w M m)) ->
  exists s, G s = s /\ (forall t, G t = t -> t = s)
  /\ (forall y, size E (difference y s) <= size E (difference (G y) y) / (1 - m))
  /\ forall b, 0 < b <= / (1 - d) -> let F := fun y i => (1 - b) * y i + b * G y i in
       (forall y z, size E (difference (F y) (F z)) <= (1 - b * (1 - m)) * size E (difference y z))
       /\ forall z0 i eps, 0 < eps -> exists K, forall k, (K <= k)%nat -> Rabs (Nat.iter k F z0 i - s i) < eps.
Proof.
  intros below range sloped low E bounded. apply (@log_norm_any n E G slope m d below range sloped).
  intros b M v [b0 step] here.
  assert (step' : b * (1 - d) <= 1).
  { apply Rmult_le_compat_r with (r := 1 - d) in step; [|lra]. rewrite Rinv_l in step by lra. exact step. }
  destruct bounded as [[-> mu]|[-> mu]].
  - exact (@damped_sup n w b d m M b0 step' (low M here) (mu M here) v).
  - exact (@damped_sum n w b d m M b0 step' (low M here) (mu M here) v).
Qed.

(** Slope products of a composition have a common bound, so that the d above is there. *)
Lemma products_bounded n m (g : net n m) : exists B, 0 <= B /\ forall M, products g M -> forall i j, Rabs (M i j) <= B.
Proof.
  induction g as [|k m before [B [B0 IH]] W c|m before [B [B0 IH]] s a b].
  - exists 1. split; [lra|]. intros M -> i j. unfold unit_matrix.
    destruct (Fin.eq_dec i j); [rewrite Rabs_R1 | rewrite Rabs_R0]; lra.
  - exists (sum (fun i => sum (fun j => Rabs (W i j)) * B)).
    assert (terms : forall i, 0 <= sum (fun j => Rabs (W i j)) * B).
    { intros i. apply Rmult_le_pos; [apply sum_nonneg; intros j; apply Rabs_pos | exact B0]. }
    split; [apply sum_nonneg; exact terms|]. intros M [N [here ->]] i j.
    apply Rle_trans with (2 := sum_term _ terms i). rewrite Rmult_comm, <- sum_scale.
    apply Rle_trans with (1 := apply_abs W (fun l => N l j) i). apply sum_le. intros l. rewrite Rmult_comm.
    apply Rmult_le_compat_r; [apply Rabs_pos | exact (IH N here l j)].
  - exists (sum (fun i => (Rabs (a i) + Rabs (b i)) * B)).
    assert (terms : forall i, 0 <= (Rabs (a i) + Rabs (b i)) * B).
    { intros i. apply Rmult_le_pos; [|exact B0]. pose proof (Rabs_pos (a i)). pose proof (Rabs_pos (b i)). lra. }
    split; [apply sum_nonneg; exact terms|]. intros M [N [t [here [range ->]]]] i j.
    apply Rle_trans with (2 := sum_term _ terms i). rewrite Rabs_mult.
    apply Rmult_le_compat; [apply Rabs_pos | apply Rabs_pos | | exact (IH N here i j)].
    specialize (range i). unfold Rabs. repeat destruct Rcase_abs; lra.
Qed.

(** For compositions: nothing but mu <= m < 1 for every slope product. *)
Theorem log_norm_net (n : nat) (w : Fin.t n -> posreal) (g : net n n) (m : R) : m < 1 -> verified (fun _ => True) g ->
  forall E : vector_norm n,
  (E = sup_norm w /\ (forall M, products g M -> log_norm_sup w M m))
    \/ (E = sum_norm w /\ (forall M, products g M -> log_norm_sum w M m)) ->
  exists s, run g s = s /\ (forall t, run g t = t -> t = s)
  /\ forall y, size E (difference y s) <= size E (difference (run g y) y) / (1 - m).
Proof.
  intros below holds E mu. destruct (products_bounded g) as [B [B0 entries]].
  destruct (@log_norm n w (run g) (products g) m (- B)) with (E := E) as [s [fixed [only [bound _]]]]; auto.
  - lra.
  - intros y z. destruct (slopes _ g holds) as [found _]. exact (found y z I I).
  - intros M here i. specialize (entries M here i i). pose proof (Rle_abs (- M i i)) as low.
    rewrite Rabs_Ropp in low. lra.
  - exists s. auto.
Qed.

(** The hypotheses can be met where T1 fails: relu(-27 y + c) in R^1, mu = 0 and d = -27. *)
Theorem log_norm_instance (c : R) : let w := fun _ : Fin.t 1 => mkposreal 1 Rlt_0_1 in
  let g := units (affine (input 1) (fun _ _ => -27) (fun _ => c)) (fun _ => Activations.relu) (fun _ => 0)
             (fun _ => 1) in
  verified (fun _ => True) g
  /\ (forall M, products g M -> log_norm_sup w M 0 /\ log_norm_sum w M 0 /\ forall i, -27 <= M i i)
  /\ exists y z, 1 < size (sup_norm w) (difference (run g y) (run g z)) / size (sup_norm w) (difference y z).
Proof.
  intros w g. split; [|split].
  - split; [split; exact I|]. intros i. split; [simpl; lra|]. intros p p' _ _.
    exact (proj1 slopes_activations p p' I I).
  - assert (alone : forall i : Fin.t 1, i = Fin.F1).
    { apply by_index; [reflexivity|]. intros i. exact (Fin.case0 (fun i => Fin.FS i = Fin.F1) i). }
    intros M [N [t [[K [unit weights]] [range ->]]]].
    assert (entry : t Fin.F1 * N Fin.F1 Fin.F1 = t Fin.F1 * -27).
    { rewrite weights, unit. unfold times. simpl. rewrite unit_same. unfold tail. simpl. ring. }
    specialize (range Fin.F1). simpl in range.
    unfold log_norm_sup, log_norm_sum, off_diagonal.
    split; [|split]; intros i; rewrite (alone i); simpl; unfold tail; rewrite ?entry;
      try (destruct (Fin.eq_dec Fin.F1 Fin.F1) as [_|no]; [|contradiction]); lra.
  - exists (fun _ => c / 27), (fun _ => (c - 1) / 27). unfold g. simpl. unfold difference, weighed, apply; simpl.
    unfold tail.
    unfold Activations.relu.
    rewrite (Rmax_left 0 (-27 * (c / 27) + 0 + c)), (Rmax_right 0 (-27 * ((c - 1) / 27) + 0 + c)) by lra.
    rewrite !(Rmax_left _ 0) by (apply Rmult_le_pos; [lra | apply Rabs_pos]).
    replace (0 - (-27 * ((c - 1) / 27) + 0 + c)) with (- (1)) by field.
    replace (c / 27 - (c - 1) / 27) with (/ 27) by field.
    rewrite Rabs_Ropp, Rabs_R1, Rabs_right by lra. lra.
Qed.
